"""The online model as serving uses it: logistic regressions on scaled inputs and hashed ids; its record.

One foresees clicks: its probability is a feature of the ranker. The others foresee long views and likes: with
all of them it is a ranker of last resort. `online_learner` learns it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES
from headrace.models.learning import artefact, hashed
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.objectives import CLICK, OBJECTIVES, added
from headrace.models.learning.scaled_columns import scaled
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

NAME = "online"
#: Scaled inputs are clipped to this many standard deviations: one extreme value must not decide a score.
CLIP = 8.0
#: The columns are one after the other.
_FIRST = int(ONLINE_COLUMNS[0])


def _no_terms() -> F32:
    return np.zeros(SLOTS, np.float32)


def _ones() -> F32:
    return np.ones(len(ONLINE_NAMES) + 1, np.float32)


@dataclass(slots=True)
class Head:
    """What foresees one more objective, on the same scaled columns; attributes as of ``OnlineWeights``.

    Attributes
    ----------
    happened
        How many positives it was learnt from.
    """

    weights: F32
    bias: float
    terms: F32
    squares: F32
    happened: int = 0

    @classmethod
    def none(cls) -> Head:
        """Return a head that has learnt nothing."""
        return cls(np.zeros(len(ONLINE_NAMES), np.float32), 0.0, _no_terms(), _ones())


@dataclass(slots=True)
class OnlineWeights:
    """The model: ``sigmoid(clip((x - mean) / scale) @ weights + bias + terms[slots].sum())``, of a click.

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
    heads
        What foresees the other objectives; none in a record of an older version.
    shares
        What each objective counts in the score of a list; empty: the score is the probability of a click.
    quality
        Figures that were published with it.
    """

    mean: F32
    scale: F32
    weights: F32
    bias: float
    version: str = ""
    terms: F32 = field(default_factory=_no_terms)
    squares: F32 = field(default_factory=_ones)
    auc: float | None = None
    heads: dict[str, Head] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)

    def predict(self, x: F32, ids: Ids | None = None) -> F32:
        """Return click probabilities, float32 ``(n,)``, from full feature rows ``(n, len(SPEC))``.

        Without ``ids`` hashed terms are left out.
        """
        return _probabilities(self._scaled(x), self, ids)

    def foreseen(self, x: F32, ids: Ids | None = None) -> dict[str, F32]:
        """Return the probabilities of all objectives, float32 ``(n,)`` each; parameters as of ``predict``."""
        inputs = self._scaled(x)
        heads: dict[str, OnlineWeights | Head] = {CLICK: self, **self.heads}
        return {name: _probabilities(inputs, head, ids) for name, head in heads.items()}

    def by_objective(self, foreseen: Mapping[str, F32]) -> dict[str, F64]:
        """Return what of ``foreseen`` counts in a score, float64 ``(n,)`` each."""
        return {name: foreseen[name].astype(np.float64) for name in self.shares or (CLICK,)}

    def together(self, by_objective: Mapping[str, F64]) -> F64:
        """Return the scores that ``by_objective`` makes up, float64 ``(n,)``."""
        if not self.shares:
            return by_objective[CLICK]
        return added([share * by_objective[name] for name, share in self.shares.items()])

    def _scaled(self, x: F32) -> F32:
        # Column after column: the order in which products are added is the same however rows came.
        return scaled(x, _FIRST, self.mean, self.scale, CLIP)


def _probabilities(inputs: F32, head: OnlineWeights | Head, ids: Ids | None) -> F32:
    z = inputs @ head.weights + head.bias
    if ids is not None:
        z = z + ids.sums(head.terms)
    out: F32 = (1 / (1 + np.exp(-np.clip(z, -30, 30)))).astype(np.float32)  # past 30, exp may overflow
    return out


def sound(weights: OnlineWeights) -> bool:
    """Return whether all numbers are finite and every scale is positive: whether a model can be used."""
    columns = bool(np.isfinite(weights.mean).all() and np.isfinite(weights.scale).all())
    heads: list[OnlineWeights | Head] = [weights, *weights.heads.values()]
    return columns and bool((weights.scale > 0).all()) and all(map(_sound, heads))


def _sound(head: OnlineWeights | Head) -> bool:
    arrays = (head.weights, head.terms, head.squares)
    return (
        math.isfinite(head.bias)
        and all(bool(np.isfinite(array).all()) for array in arrays)
        and bool((head.squares > 0).all())
    )


class _Head(msgspec.Struct):
    weights: list[float]
    bias: float
    squares: list[float]
    terms: str
    happened: Annotated[int, msgspec.Meta(ge=0)]


class _Body(msgspec.Struct):
    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    squares: list[float] = []
    terms: str = ""
    offsets: dict[str, dict[int, int]] = {}
    heads: dict[str, _Head] = {}
    shares: dict[str, Annotated[float, msgspec.Meta(gt=0, le=1)]] = {}


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
            "heads": {name: _written(head) for name, head in weights.heads.items()},
            "shares": weights.shares,
        }
    )
    return artefact.encode(NAME, "logistic", body, ONLINE_NAMES, created_ts, quality)


def _written(head: Head) -> _Head:
    return _Head(
        head.weights.tolist(), head.bias, head.squares.tolist(), hashed.pack(head.terms), head.happened
    )


def decode(value: bytes) -> OnlineWeights:
    """Return the online model in a `models` record; raise ``ArtefactError`` when it does not fit.

    Records of older versions foresee clicks only; of those of later ones the objectives that are known count.
    """
    document = artefact.decode(value)
    artefact.check_features(f"online {document['version']}", tuple(document["features"]), ONLINE_NAMES)
    try:
        body = msgspec.json.decode(document["body"], type=_Body)
    except UNDECODABLE as exc:
        raise ArtefactError(f"online {document['version']}: {exc}") from exc
    name, n = f"online {document['version']}", len(ONLINE_NAMES)
    mean, scale = (_numbers(name, which, getattr(body, which), n) for which in ("mean", "scale"))
    _check_positive(name, "scale", scale)
    click = _head(name, _Head(body.weights, body.bias, body.squares or [1.0] * (n + 1), body.terms, 0))
    # Of objectives that only a later version knows, nothing is read.
    heads = {of: _head(f"{name}, {of}", head) for of, head in body.heads.items() if of in OBJECTIVES}
    shares = {of: share for of, share in body.shares.items() if of in OBJECTIVES}
    if CLICK in heads or not shares.keys() <= {CLICK, *heads}:
        raise ArtefactError(f"{name}: heads {sorted(heads)} and shares of {sorted(shares)} do not fit")
    return OnlineWeights(
        mean,
        scale,
        click.weights,
        click.bias,
        document["version"],
        click.terms,
        click.squares,
        document["metrics"].get("auc") or None,
        heads,
        shares,
        {which: value for which, value in document["metrics"].items() if value is not None},
    )


def _head(name: str, told: _Head) -> Head:
    n = len(ONLINE_NAMES)
    weights = _numbers(name, "weights", told.weights, n)
    squares = _numbers(name, "squares", told.squares, n + 1)
    _check_positive(name, "squares", squares)
    return Head(weights, told.bias, hashed.unpack(told.terms, name), squares, told.happened)


def _check_positive(name: str, which: str, values: F32) -> None:
    if not (values > 0).all():
        raise ArtefactError(f"{name}: {which} must be positive")


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
