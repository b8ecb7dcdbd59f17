"""How good scores are, in figures that position cannot flatter, with intervals. Pure: arrays in, numbers out.

Items at the top of a list are clicked more, whatever they are. So AUC compares only slots at the same
position (``strata``). A list is the unit of the bootstrap (Efron and Tibshirani 1993, percentile intervals):
its slots are not independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: Resamples of the lists; the ends of the interval are these quantiles of them.
RESAMPLES, ENDS = 200, (0.025, 0.975)
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Scored:
    """Slots with scores and what happened; arrays are ``(n,)``.

    Attributes
    ----------
    score
        Decides the order.
    probability
        What is predicted, calibrated.
    happened
        Whether there was a click, or whatever is foreseen.
    lists
        The list of each slot, a number.
    weight
        What each slot counts.
    strata
        AUC compares only slots with the same number here.
    """

    score: F64
    probability: F64
    happened: Bool
    lists: U64 | I64
    weight: F64
    strata: I64


def figures(of: Scored, resamples: int = RESAMPLES, seed: int = 7) -> dict[str, dict[str, float | None]]:
    """Return AUC, AUC within lists, NDCG@10, MRR, log-loss and calibration: ``value``, ``low`` and ``high``.

    NDCG and MRR are means over the lists with a click, AUC within lists over those with both. Each list
    counts the mean weight of its clicks. Calibration is predicted / actual clicks. What is not known is None.
    Ties within a list are broken at random.
    """
    value, drawn = draws(of, resamples, seed)
    return {name: with_ends(value[name], drawn[name]) for name in value}


def draws(
    of: Scored, resamples: int = RESAMPLES, seed: int = 7
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return each figure, and its values in the resamples; NaN: not known.

    Other scores of the same slots get the same lists drawn: so differences can be compared draw by draw.
    """
    told = _Prepared(of, np.random.default_rng(seed))
    value = told.read(np.ones(told.n_lists))
    rng, n = np.random.default_rng(seed + 1), told.n_lists
    drawn = [told.read(_counts(rng, n)) for _ in range(resamples if n else 0)]
    return value, {name: [one[name] for one in drawn] for name in value}


def _counts(rng: np.random.Generator, n: int) -> F64:
    """Return how often each of ``n`` lists is drawn in ``n`` draws."""
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)


def with_ends(value: float, drawn: list[float]) -> dict[str, float | None]:
    """Return a figure with the ends of its interval; None for what is not known."""
    known = [v for v in drawn if math.isfinite(v)]
    low, high = np.quantile(known, ENDS).tolist() if known else (math.nan, math.nan)
    numbers: Mapping[str, float] = {"value": value, "low": low, "high": high}
    return {name: v if math.isfinite(v) else None for name, v in numbers.items()}


def auc_within(score: F64, happened: Bool, strata: I64) -> float:
    """Return AUC over the pairs of the same stratum; 0.5 when there is no such pair. Arrays are ``(n,)``."""
    one = happened.astype(np.float64)
    right, pairs = (v.sum() for v in _Pairs(score, strata).read(one, 1 - one))
    return float(right / pairs) if pairs else 0.5


class _Prepared:
    """All that does not depend on the draw: a draw costs a few passes over the slots."""

    def __init__(self, of: Scored, rng: np.random.Generator) -> None:
        _, self._list = np.unique(of.lists, return_inverse=True)
        self.n_lists = int(self._list.max(initial=-1)) + 1
        self._weight, self._happened = of.weight.astype(np.float64), of.happened
        p = np.clip(of.probability, _LEAST, 1 - _LEAST)
        self._p, self._loss = p, -np.log(np.where(of.happened, p, 1 - p))
        self._pairs = _Pairs(of.score, of.strata)
        hits = np.bincount(self._list[of.happened], minlength=self.n_lists)
        clicked = np.bincount(self._list, self._weight * of.happened, self.n_lists)
        self._of_list = np.divide(clicked, hits, out=np.zeros(self.n_lists), where=hits > 0)
        one = np.ones(len(of.score))
        same, pairs = _Pairs(of.score, self._list).read(of.happened * one, ~of.happened * one)
        self._list_auc = _over(same, pairs)
        self._ndcg, self._mrr = _places(of, self._list, self.n_lists, rng)

    def read(self, counts: F64) -> dict[str, float]:
        """Return the figures when each list counts so often, ``(n_lists,)``; NaN: not known."""
        w = self._weight * counts[self._list]
        positive = w * self._happened
        same, pairs = (v.sum() for v in self._pairs.read(positive, w - positive))
        of_list = self._of_list * counts
        return {
            "auc": _ratio(same, pairs),
            "list_auc": _mean(self._list_auc, of_list),
            "ndcg_at_10": _mean(self._ndcg, of_list),
            "mrr": _mean(self._mrr, of_list),
            "log_loss": _ratio((w * self._loss).sum(), w.sum()),
            "calibration": _ratio((w * self._p).sum(), positive.sum()),
        }


class _Pairs:
    """Pairs of a slot with a click and one without, of the same stratum (Mann-Whitney; ties count half)."""

    def __init__(self, score: F64, strata: I64) -> None:
        order = np.lexsort((score, strata))
        s, of = score[order], strata[order]
        new_stratum = np.r_[True, of[1:] != of[:-1]][: len(of)]
        first = new_stratum | np.r_[True, s[1:] != s[:-1]][: len(s)]
        group = np.empty(len(s), np.int64)
        group[order] = np.cumsum(first) - 1  # slots with equal scores
        self._group = group
        self._starts = np.flatnonzero(new_stratum[first])  # groups with which a stratum begins

    def read(self, positive: F64, negative: F64) -> tuple[F64, F64]:
        """Return, by stratum, the weight of the pairs in the right order, and of all pairs."""
        if not len(self._group):
            return np.zeros(0), np.zeros(0)
        up, down = np.bincount(self._group, positive), np.bincount(self._group, negative)
        before = np.cumsum(down) - down
        sizes = np.diff(np.r_[self._starts, len(up)])
        before -= np.repeat(before[self._starts], sizes)
        right = np.add.reduceat(up * (before + down / 2), self._starts)
        return right, np.add.reduceat(up, self._starts) * np.add.reduceat(down, self._starts)


def _places(of: Scored, lists: I64, n: int, rng: np.random.Generator) -> tuple[F64, F64]:
    """Return NDCG@10 and the reciprocal rank of each list ``(n,)``; NaN for one without a click."""
    order = np.lexsort((rng.permutation(len(lists)), -of.score, lists))
    ordered, hit = lists[order], of.happened[order]
    starts = np.searchsorted(ordered, np.arange(n))
    place = np.arange(len(ordered)) - starts[ordered]
    gain = np.where(place < 10, 1 / np.log2(place + 2), 0.0)
    hits = np.bincount(ordered[hit], minlength=n)
    best = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(10) + 2))]
    ndcg = _over(np.bincount(ordered[hit], gain[hit], n), best[np.minimum(hits, 10)])
    first = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first, ordered[hit], place[hit])
    return ndcg, np.where(hits > 0, 1 / (first + 1.0), np.nan)


def _over(top: npt.NDArray[Any], bottom: F64) -> F64:
    out = np.full(len(top), np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom > 0 else math.nan


def _mean(values: F64, weights: F64) -> float:
    known = np.isfinite(values)
    return _ratio(float((values[known] * weights[known]).sum()), float(weights[known].sum()))
