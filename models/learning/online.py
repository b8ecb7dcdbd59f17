"""The online click model as serving uses it: logistic regression on scaled inputs and hashed ids; its record.

`online_learner` learns it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES
from headrace.models.learning import artefact, hashed
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

F32 = npt.NDArray[np.float32]

NAME = "online"
#: Scaled inputs are clipped to this many standard deviations: one extreme value must not decide a score.
CLIP = 8.0
#: The columns are one after the other: a slice of them is not copied.
_COLUMNS = slice(int(ONLINE_COLUMNS[0]), int(ONLINE_COLUMNS[-1]) + 1)


def _no_terms() -> F32:
    return np.zeros(SLOTS, np.float32)


def _ones() -> F32:
    return np.ones(len(ONLINE_NAMES) + 1, np.float32)


@dataclass(slots=True)
class OnlineWeights:
    """The model: ``sigmoid(clip((x - mean) / scale) @ weights + bias + terms[slots].sum())``.

    Attributes
    ----------
    mean, scale, weights
        Of the columns, float32 ``(len(ONLINE_NAMES),)``.
    bias
        The intercept.
    version
        Empty until it is published.
    terms
        Weights of hashed ids, float32 ``(SLOTS,)``; see `hashed`.
    squares
        Sums of squared gradients of ``weights`` and ``bias``, float32 ``(len(ONLINE_NAMES) + 1,)``: only a
        learner that goes on reads them.
    auc
        As it was published; None: not known.
    """

    mean: F32
    scale: F32
    weights: F32
    bias: float
    version: str = ""
    terms: F32 = field(default_factory=_no_terms)
    squares: F32 = field(default_factory=_ones)
    auc: float | None = None

    def predict(self, x: F32, ids: Ids | None = None) -> F32:
        """Return click probabilities, float32 ``(n,)``, from full feature rows ``(n, len(SPEC))``.

        Without ``ids`` hashed terms are left out.
        """
        # Column after column: the order in which products are added is the same however rows came.
        scaled = np.subtract(x[:, _COLUMNS], self.mean, order="F")
        scaled /= self.scale
        z = np.clip(scaled, -CLIP, CLIP, out=scaled) @ self.weights + self.bias
        if ids is not None:
            z = z + ids.sums(self.terms)
        out: F32 = (1 / (1 + np.exp(-np.clip(z, -30, 30)))).astype(np.float32)  # past 30, exp may overflow
        return out


def sound(weights: OnlineWeights) -> bool:
    """Return whether all numbers are finite and every scale is positive: whether a model can be used."""
    arrays = (weights.mean, weights.scale, weights.weights, weights.terms, weights.squares)
    return (
        math.isfinite(weights.bias)
        and all(bool(np.isfinite(array).all()) for array in arrays)
        and bool((weights.scale > 0).all())
        and bool((weights.squares > 0).all())
    )


class _Body(msgspec.Struct):
    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    squares: list[float] = []
    terms: str = ""
    offsets: dict[str, dict[int, int]] = {}


def encode(
    weights: OnlineWeights,
    created_ts: int,
    quality: dict[str, float],
    read: Mapping[str, Mapping[int, int]] | None = None,
) -> tuple[bytes, str]:
    """Return the `models` record of the online model and its version.

    Parameters
    ----------
    read
        By `impressions` and `events`, and partition, the offset after the last record that was learnt.
    """
    body = msgspec.json.encode(
        {
            "mean": weights.mean.tolist(),
            "scale": weights.scale.tolist(),
            "weights": weights.weights.tolist(),
            "bias": weights.bias,
            "squares": weights.squares.tolist(),
            "terms": hashed.pack(weights.terms),
            "offsets": read or {},
        }
    )
    return artefact.encode(NAME, "logistic", body, ONLINE_NAMES, created_ts, quality)


def decode(value: bytes) -> OnlineWeights:
    """Return the online model in a `models` record; raise ``ArtefactError`` when it does not fit."""
    document = artefact.decode(value)
    artefact.check_features(f"online {document['version']}", tuple(document["features"]), ONLINE_NAMES)
    try:
        body = msgspec.json.decode(document["body"], type=_Body)
    except UNDECODABLE as exc:
        raise ArtefactError(f"online {document['version']}: {exc}") from exc
    name, n = f"online {document['version']}", len(ONLINE_NAMES)
    arrays = {
        "mean": _numbers(name, "mean", body.mean, n),
        "scale": _numbers(name, "scale", body.scale, n),
        "weights": _numbers(name, "weights", body.weights, n),
        "squares": _numbers(name, "squares", body.squares or [1.0] * (n + 1), n + 1),
    }
    for positive in ("scale", "squares"):
        if not (arrays[positive] > 0).all():
            raise ArtefactError(f"{name}: {positive} must be positive")
    terms = hashed.unpack(body.terms, name)
    auc = document["metrics"].get("auc") or None
    return OnlineWeights(bias=body.bias, version=document["version"], terms=terms, auc=auc, **arrays)


def _numbers(name: str, which: str, values: list[float], n: int) -> F32:
    with np.errstate(over="ignore"):  # becomes infinite, and is refused for it
        array = np.array(values, np.float32)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ArtefactError(
            f"{name}: {which} must be {n} finite numbers, "
            f"got {len(array)} of which {int(np.isfinite(array).sum())} finite"
        )
    return array


def read_up_to(value: bytes) -> tuple[dict[str, dict[int, int]], int]:
    """Return what a published online model has learnt, and when it was published (ms).

    The offset after the last record by `impressions` and `events`, and partition; empty when it does not say.
    Raises ``ArtefactError`` when it is none.
    """
    document = artefact.decode(value)
    try:
        return msgspec.json.decode(document["body"], type=_Body).offsets, int(document["created_ts"])
    except UNDECODABLE as exc:
        raise ArtefactError(f"online {document['version']}: {exc}") from exc


def learnt(value: bytes) -> tuple[int, int]:
    """Return how many examples and clicks a published online model learnt from; 0 where it does not say."""
    metrics = artefact.decode(value).get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    counts = (metrics.get(name, 0) for name in ("examples", "clicks"))
    examples, clicks = (int(c) if isinstance(c, int | float) and 0 <= c < 2**53 else 0 for c in counts)
    return examples, clicks
