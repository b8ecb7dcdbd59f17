"""Calibration: from the output of a booster to a probability that means what it says.

Platt's scaling (Platt 1999) is a logistic curve with two numbers. Isotonic regression (Zadrozny and Elkan
2002) is any curve that does not fall, found by pooling adjacent violators. Both keep the order of the scores.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

Kind = Literal["none", "platt", "isotonic"]
KINDS: tuple[Kind, ...] = ("none", "platt", "isotonic")

_LEAST = 1e-6
#: Isotonic regression sees at most so many groups of scores, and each has at least so many examples.
_GROUPS, _GROUP = 200, 50
#: Within a step of the isotonic curve, the score itself decides: so no two scores become equal.
_SLOPE = 1e-6


class Calibration(msgspec.Struct, frozen=True):
    """A curve from score to probability.

    Attributes
    ----------
    kind
        "none": the score as it is. "platt": ``sigmoid(x[0] * logit(score) + x[1])``. "isotonic": straight
        lines between the points ``(x, y)``.
    """

    kind: Kind = "none"
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, score: F64) -> F64:
        """Return probabilities, float64 ``(n,)``; they are in the order of the scores."""
        if self.kind == "none":
            return score
        if self.kind == "platt":
            return _sigmoid(self.x[0] * _logit(score) + self.x[1])
        out: F64 = np.interp(score, self.x, self.y) * (1 - _SLOPE) + _SLOPE * score
        return out

    def sound(self) -> bool:
        """Return whether the numbers are a curve that rises."""
        x, y = np.array(self.x, np.float64), np.array(self.y, np.float64)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return False
        if self.kind == "platt":
            return len(x) == 2 and not len(y) and bool(x[0] > 0)
        if self.kind == "isotonic":
            rises = (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()
            return 0 < len(x) == len(y) and bool(rises and (y >= 0).all() and (y <= 1).all())
        return not len(x) and not len(y)


def fitted(kind: Kind, score: F64, happened: Bool) -> Calibration:
    """Return the calibration of a kind for scores and what happened, both ``(n,)``.

    It is "none" where there is too little to go by: one class only, or a curve that would fall.
    """
    positive = int(happened.sum())
    if kind == "none" or not 0 < positive < len(happened):
        return Calibration()
    found = _platt(score, happened) if kind == "platt" else _isotonic(score, happened)
    return found if found.sound() else Calibration()


def best_kind(score: F64, happened: Bool, half: Bool) -> Kind:
    """Return the kind with the least log-loss on one half of the examples, fitted on the other, both ways.

    ``half`` says which half an example is in, bool ``(n,)``; a list should be in one of them as a whole.
    """
    losses = {kind: log_loss(crossed(kind, score, happened, half), happened) for kind in KINDS}
    return min(KINDS, key=lambda kind: losses[kind])


def crossed(kind: Kind, score: F64, happened: Bool, half: Bool) -> F64:
    """Return probabilities ``(n,)``: of each half, by a calibration fitted on the other."""
    out = np.array(score, np.float64)
    for part in (half, ~half):
        out[part] = fitted(kind, score[~part], happened[~part]).apply(score[part])
    return out


def log_loss(probability: F64, happened: Bool) -> float:
    """Return the mean log-loss; 0 without examples."""
    p = np.clip(np.where(happened, probability, 1 - probability), _LEAST, 1)
    return float(-np.log(p).mean()) if len(p) else 0.0


def _platt(score: F64, happened: Bool) -> Calibration:
    """Fit by Newton's method, with Platt's targets: they keep the curve finite when the classes separate."""
    z, positive = _logit(score), float(happened.sum())
    target = np.where(happened, (positive + 1) / (positive + 2), 1 / (len(z) - positive + 2))
    x, a = np.stack([z, np.ones_like(z)], 1), np.array([1.0, 0.0])
    for _ in range(30):
        p = _sigmoid(x @ a)
        gradient = x.T @ (p - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        a = a - step
        if np.abs(step).max() < 1e-9:
            break
    return Calibration("platt", (float(a[0]), float(a[1])))


def _isotonic(score: F64, happened: Bool) -> Calibration:
    order = np.argsort(score, kind="stable")
    groups = np.array_split(order, max(1, min(_GROUPS, len(order) // _GROUP)))
    blocks: list[tuple[float, float, float]] = []  # number of examples, sums of scores and of what happened
    for group in groups:
        block = float(len(group)), float(score[group].sum()), float(happened[group].sum())
        while blocks and blocks[-1][2] / blocks[-1][0] >= block[2] / block[0]:
            before = blocks.pop()
            block = before[0] + block[0], before[1] + block[1], before[2] + block[2]
        blocks.append(block)
    x = np.array([scores / n for n, scores, _ in blocks])
    y = np.array([hits / n for n, _, hits in blocks])
    apart = np.r_[True, np.diff(x) > 0]
    return Calibration("isotonic", tuple(x[apart].tolist()), tuple(y[apart].tolist()))


def _logit(p: F64) -> F64:
    p = np.clip(p, _LEAST, 1 - _LEAST)
    out: F64 = np.log(p / (1 - p))
    return out


def _sigmoid(z: F64) -> F64:
    out: F64 = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
    return out
