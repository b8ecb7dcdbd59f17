"""How far the leaf values of the ranker have moved since its training: the record, and the ranker with it.

The trees stay as they were trained. `leaf_learner` moves their leaf values by what happens after the
training; a new ranker starts from its own values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact, hashed
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.objectives import CLICK, KIND_OF_OBJECTIVES, from_body
from headrace.models.learning.trees import Trees, UnlikeError
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

if TYPE_CHECKING:
    from headrace.models.learning.ranker import Ranker  # LightGBM needs 50 MB, and no learner needs it

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

RANKER = "ranker"  # the name of the ranker, `ranker.NAME`
NAME = "leaves"
KIND = "leaf-deltas"
#: Largest delta of a leaf, on the scale of log-odds. (Trained leaves are about .05.)
MOST_DELTA = 0.3


def _no_terms() -> F32:
    return np.zeros(SLOTS, np.float32)


@dataclass(slots=True)
class LeafDeltas:
    """What was learnt since the training of a ranker.

    Attributes
    ----------
    ranker
        The version of the ranker.
    deltas, squares
        By leaf, in the order of the trees, float32 ``(n_leaves,)``: what is added to its value, and the sum
        of its squared gradients (read only by a learner that goes on).
    used
        Whether the ranker is better with them: its rolling log-loss is lower.
    terms
        Weights of hashed user and item, float32 ``(SLOTS,)``.
    version
        Empty until it is published.
    """

    ranker: str
    deltas: F32
    squares: F32
    used: bool
    terms: F32 = field(default_factory=_no_terms)
    version: str = ""


class MovedRanker:
    """A ranker whose leaf values have moved.

    Attributes
    ----------
    version
        Of the deltas.
    deltas
        What is added to the value of each leaf, float32 ``(n_leaves,)``.
    """

    def __init__(self, ranker: Ranker, trees: Trees, found: LeafDeltas) -> None:
        self._ranker, self._trees, self._terms = ranker, trees, found.terms
        self._values = trees.values.copy()
        self._values[trees.leaves] += found.deltas
        self.version, self.deltas = found.version, found.deltas

    @property
    def leaf_values(self) -> F64:
        """The values of all leaves as they are now, tree after tree, float64 ``(n_leaves,)``."""
        return self._values[self._trees.leaves]

    @property
    def terms(self) -> F32:
        """Weights of hashed user and item, float32 ``(SLOTS,)``."""
        return self._terms

    def sums(self, x: F32, ids: Ids) -> F64:
        """Return the moved log-odds, float64 ``(n,)``, of rows ``(n, len(SPEC))``."""
        out: F64 = self._trees.sums(x, self._values) + self._terms[ids.pair()].sum(1)
        return out

    def predict(self, x: F32, ids: Ids) -> F64:
        """Return the scores, float64 ``(n,)``: on the scale of the ranker's."""
        return self._ranker.predict(x, self._trees.score(self.sums(x, ids)))

    def by_objective(self, x: F32, ids: Ids) -> dict[str, F64]:
        """Return the probability of each objective, float64 ``(n,)``."""
        return self._ranker.by_objective(x, self._trees.score(self.sums(x, ids)))


@lru_cache(maxsize=2)
def trees_of(value: bytes) -> tuple[Trees, str]:
    """Return the trees of the ranker in a `models` record, and its version.

    A learner that also merges asks twice: the last two are remembered.

    Raises
    ------
    ArtefactError
        It is no ranker of this feature list.
    UnlikeError
        Its trees are of another kind than leaves can move in.
    """
    document = artefact.decode(value)
    artefact.check_features(f"ranker {document['version']}", tuple(document["features"]), SPEC.names)
    trees = Trees(_clicks(document))
    if trees.width > len(SPEC):
        raise ArtefactError(f"ranker {document['version']}: its trees read {trees.width} features")
    return trees, document["version"]


def read_ahead(records: Iterable[Any]) -> None:
    """Read the trees of rankers among records of `models`, so that ``trees_of`` takes no time for these.

    Any thread may do it. What is wrong with one, ``trees_of`` says.
    """
    prefix = f"{RANKER}/".encode()
    for record in records:
        if record.value is not None and (record.key or b"").startswith(prefix):
            with contextlib.suppress(Exception):
                trees_of(record.value)


def _clicks(document: dict[str, Any]) -> str:
    """Return the text of the booster that foresees clicks."""
    if document["kind"] == KIND_OF_OBJECTIVES:
        first = from_body(document["body"])[0]
        if first.name != CLICK:
            raise UnlikeError("it does not foresee clicks")
        return first.text
    if document["kind"] != "lightgbm":
        raise ArtefactError(f"ranker {document['version']}: kind is {document['kind']!r}")
    text: str = document["body"].decode("utf-8", "replace")
    return text


def moved(ranker: Ranker | None, found: LeafDeltas | None) -> MovedRanker | None:
    """Return the ranker with the deltas; None when they are not of this ranker, or make it no better."""
    if ranker is None or found is None or not found.used or found.ranker != ranker.version:
        return None
    trees = ranker.trees
    if trees is None or len(trees.leaves) != len(found.deltas):
        return None
    return MovedRanker(ranker, trees, found)


def sound(found: LeafDeltas) -> bool:
    """Return whether all numbers are finite, and squares positive: whether the deltas can be used."""
    arrays = (found.deltas, found.squares, found.terms)
    return all(bool(np.isfinite(a).all()) for a in arrays) and bool((found.squares > 0).all())


class _Body(msgspec.Struct):
    ranker: str
    used: bool
    deltas: list[float]
    squares: list[float]
    terms: str


def encode(found: LeafDeltas, created_ts: int, quality: dict[str, float]) -> tuple[bytes, str]:
    """Return the `models` record of deltas and their version."""
    body = msgspec.json.encode(
        _Body(
            found.ranker,
            found.used,
            [float(f"{v:.6g}") for v in found.deltas.tolist()],
            [float(f"{v:.6g}") for v in found.squares.tolist()],
            hashed.pack(found.terms),
        )
    )
    return artefact.encode(NAME, KIND, body, SPEC.names, created_ts, quality)


def decode(value: bytes) -> LeafDeltas:
    """Return the deltas in a `models` record; raise ``ArtefactError`` when it does not fit."""
    document = artefact.decode(value)
    name = f"leaves {document['version']}"
    artefact.check_features(name, tuple(document["features"]), SPEC.names)
    try:
        body = msgspec.json.decode(document["body"], type=_Body)
    except UNDECODABLE as exc:
        raise ArtefactError(f"{name}: {exc}") from exc
    with np.errstate(over="ignore"):  # becomes infinite, and is refused for it
        deltas, squares = np.array(body.deltas, np.float32), np.array(body.squares, np.float32)
    terms = hashed.unpack(body.terms, name)
    found = LeafDeltas(body.ranker, deltas, squares, body.used, terms, document["version"])
    if len(deltas) != len(squares) or not sound(found):
        raise ArtefactError(f"{name}: deltas and squares must be as many finite numbers, squares positive")
    return found
