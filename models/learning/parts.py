"""The record by which a learner tells what it has learnt since the last published model (`model-updates`).

It says which records it was learnt from: those between ``known`` and ``read``. Whoever merges parts takes one
only if the published model has learnt exactly the records before ``known``; so each record is learnt once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning.growth import Growth
from headrace.models.learning.hashed import SLOTS
from headrace.models.learning.heads import HeadPart
from headrace.models.learning.leaf_learner import LeafPart
from headrace.models.learning.objectives import CLICK, OBJECTIVES
from headrace.models.learning.online_learner import Moments, OnlinePart
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

F64 = npt.NDArray[np.float64]

#: By `impressions` and `events`, and partition, the offset after the last record that was learnt.
Read: TypeAlias = dict[str, dict[int, int]]

_N = len(ONLINE_NAMES)


@dataclass(slots=True)
class Part:
    """What one learner has learnt since the model that it began with.

    Attributes
    ----------
    learner
        Name of the learner.
    known, read
        Up to where the partitions were learnt by that model (without those of which it has nothing), and with
        this part.
    online, leaves
        What was learnt; no leaves when there is no ranker whose leaves move.
    quality
        Rolling quality of the learner; see ``OnlineLearner.quality``.
    """

    learner: str
    known: Read
    read: Read
    online: OnlinePart
    leaves: LeafPart | None
    quality: dict[str, float]


class _Table(msgspec.Struct):
    at: bytes  # uint32: the places that moved
    moved: bytes  # float32
    squares: bytes  # float32


class _Leaves(msgspec.Struct):
    ranker: str
    deltas: _Table
    n: int
    terms: _Table
    steps: int
    seen: int
    losses: tuple[float, float]


class _Head(msgspec.Struct):
    steps: int
    happened: int
    weights: _Table
    terms: _Table


class _Message(msgspec.Struct):
    learner: str
    known: Read
    read: Read
    spec: str
    steps: int
    seen: int
    clicks: int
    count: int
    mean: list[float]
    var: list[float]
    weights: _Table
    terms: _Table
    leaves: _Leaves | None
    quality: dict[str, float]
    heads: dict[str, _Head] = {}  # besides that of clicks; a learner of an older version has none


def encode(part: Part) -> bytes:
    """Return the record value: MessagePack."""
    online, leaves = part.online, part.leaves
    click, heads = online.heads[CLICK], {name: _head(h) for name, h in online.heads.items() if name != CLICK}
    return msgspec.msgpack.encode(
        _Message(
            part.learner,
            part.known,
            part.read,
            SPEC.version,
            click.steps,
            online.seen,
            click.happened,
            online.moments.count,
            online.moments.mean.tolist(),
            online.moments.var.tolist(),
            _packed(click.weights),
            _packed(click.terms),
            None if leaves is None else _leaves(leaves),
            part.quality,
            heads,
        )
    )


def decode(value: bytes) -> Part:
    """Return the part in a record; raise ``ArtefactError`` when it is none, or does not fit this code."""
    try:
        found = msgspec.msgpack.decode(value, type=_Message)
        if found.spec != SPEC.version or len(found.mean) != _N or len(found.var) != _N:
            raise ArtefactError("a part of a model was learnt from other features")
        moments = Moments(_N)
        moments.count, moments.mean, moments.var = found.count, np.array(found.mean), np.array(found.var)
        told = {CLICK: _Head(found.steps, found.clicks, found.weights, found.terms), **found.heads}
        heads = {name: _unpacked_head(told[name]) if name in told else HeadPart() for name in OBJECTIVES}
        online = OnlinePart(found.seen, moments, heads)
        leaves = None if found.leaves is None else _unpacked_leaves(found.leaves)
    except (*UNDECODABLE, ValueError, IndexError) as exc:
        raise ArtefactError(f"no part of a model: {exc}") from exc
    if not online.sound() or not (leaves is None or leaves.sound()):
        raise ArtefactError("a part of a model must have finite numbers")
    return Part(found.learner, found.known, found.read, online, leaves, found.quality)


def _head(part: HeadPart) -> _Head:
    return _Head(part.steps, part.happened, _packed(part.weights), _packed(part.terms))


def _unpacked_head(found: _Head) -> HeadPart:
    weights, terms = _unpacked(found.weights, _N + 1), _unpacked(found.terms, SLOTS)
    return HeadPart(found.steps, found.happened, weights, terms)


def _leaves(part: LeafPart) -> _Leaves:
    deltas, terms = _packed(part.deltas), _packed(part.terms)
    losses = float(part.losses[0]), float(part.losses[1])
    return _Leaves(part.ranker, deltas, len(part.deltas.moved), terms, part.steps, part.seen, losses)


def _unpacked_leaves(found: _Leaves) -> LeafPart:
    return LeafPart(
        found.ranker,
        _unpacked(found.deltas, found.n),
        _unpacked(found.terms, SLOTS),
        found.steps,
        found.seen,
        np.array(found.losses),
    )


def _packed(growth: Growth) -> _Table:
    at = np.flatnonzero((growth.squares != 0) | (growth.moved != 0))
    moved, squares = (array[at].astype("<f4").tobytes() for array in (growth.moved, growth.squares))
    return _Table(at.astype("<u4").tobytes(), moved, squares)


def _unpacked(table: _Table, n: int) -> Growth:
    at = np.frombuffer(table.at, "<u4")
    growth = Growth.none(n)
    growth.moved[at] = np.frombuffer(table.moved, "<f4")
    growth.squares[at] = np.frombuffer(table.squares, "<f4")
    return growth
