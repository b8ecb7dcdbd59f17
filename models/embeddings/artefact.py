"""The towers as bytes: a JSON head, then plain arrays. Never pickle.

Two forms: what serving needs (``encode``; embeddings in float16), and all that a learner needs to go on as if
it had never stopped (``save``). Equal contents give equal bytes.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.directions import DIM, KINDS
from headrace.models.embeddings.features import ItemFeatures
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.towers import MAX_ROWS, N_WEIGHTS, Towers
from headrace.models.learning.artefact import MAX_BODY
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

FORMAT = 1
_MAGIC = b"headrace towers\n"
_MAX_HEAD = 64 * 1024
Array = npt.NDArray[Any]
#: dtype and shape of every array; -1 is the number of rows.
_TOWERS = {
    "keys": ("<u8", (-1,)),
    "kinds": ("|u1", (-1,)),
    "vectors": ("<f2", (-1, DIM)),
    "weights": ("<f4", (N_WEIGHTS,)),
    "own_map": ("<f4", (DIM, DIM)),
}


class _Head(msgspec.Struct):
    format: int
    dim: int
    kinds: list[str]
    arrays: dict[str, tuple[str, list[int]]]
    numbers: dict[str, float] = {}


def encode(towers: Towers) -> tuple[bytes, str]:
    """Return the towers as serving needs them, and their version: the start of the SHA-256 of the bytes.

    Raises
    ------
    ArtefactError
        They are larger than ``MAX_BODY``.
    """
    body = _pack(_arrays(towers, "<f2"), {})
    return body, version_of(body)


def decode(body: bytes) -> Towers:
    """Return the towers in an artefact.

    Raises
    ------
    ArtefactError
        It is not one, is damaged, or was made by code with another format, ``DIM`` or kinds of features.
    """
    arrays, _ = _unpack(body)
    return _towers(arrays, _TOWERS, version_of(body))


def towers_of(body: bytes) -> Towers:
    """Return the towers of a learner that was saved.

    Raises
    ------
    ArtefactError
        As ``decode``.
    """
    arrays, _ = _unpack(body)
    needed = {name: array for name, array in arrays.items() if name in _TOWERS}
    return _towers(needed, _TOWERS | {"vectors": ("<f4", (-1, DIM))}, version_of(body))


def finite(learner: Learner) -> bool:
    """Return whether all numbers that were learnt are finite: whether the model can be used."""
    towers = learner.towers
    rows = towers.table.rows.rows()
    learnt = (towers.table.rows.data["vector"][rows], towers.weights, towers.own_map)
    return all(bool(np.isfinite(array).all()) for array in learnt)


def version_of(body: bytes) -> str:
    """Return the version of an artefact."""
    return hashlib.sha256(body).hexdigest()[:12]


def save(learner: Learner) -> bytes:
    """Return all that a learner has learnt. Clicks that wait are not in it: learn or give them again.

    Raises
    ------
    ArtefactError
        It is larger than ``MAX_BODY``.
    """
    data = learner.towers.table.rows.data[_rows_by_key(learner.towers)]
    arrays = _arrays(learner.towers, "<f4") | {"updated": data["updated"], "squares": data["squares"]}
    numbers = {"learnt": learner.learnt, "loss": learner.loss}
    numbers |= {"clicks": learner.gaps.clicks, "added": learner.sightings.added}
    return _pack(arrays | _memory(learner), numbers)


def restore(
    body: bytes, features: ItemFeatures, plan: Plan | None = None, max_rows: int = MAX_ROWS
) -> Learner:
    """Return the learner that was saved. It goes on as if it had never stopped.

    Raises
    ------
    ArtefactError
        As ``decode``.
    """
    arrays, numbers = _unpack(body)
    learner = Learner(Towers(max_rows), features, plan)
    memory = _memory(learner)
    layout = _TOWERS | {"vectors": ("<f4", (-1, DIM)), "updated": ("<i8", (-1,)), "squares": ("<f4", (-1,))}
    layout |= {name: (array.dtype.str, array.shape) for name, array in memory.items()}
    learner.towers = _towers(arrays, layout, "", max_rows)
    rows = learner.towers.table.rows.find(arrays["keys"])
    for name in ("updated", "squares"):
        learner.towers.table.rows.data[name][rows] = arrays[name]
    for name, array in memory.items():
        array[...] = arrays[name]
    try:
        learner.learnt, learner.loss = int(numbers["learnt"]), numbers["loss"]
        learner.gaps.clicks, learner.sightings.added = int(numbers["clicks"]), int(numbers["added"])
    except KeyError as exc:
        raise ArtefactError(f"the towers' artefact lacks the number {exc}") from exc
    return learner


def _memory(learner: Learner) -> dict[str, Array]:
    """Return the arrays of a learner beside its towers, by name: the arrays themselves."""
    gaps = learner.gaps
    out: dict[str, Array] = {"gap_last": gaps.last, "gap": gaps.gap, "gap_seen": gaps.seen}
    out |= {"sightings": learner.sightings.counts}
    return out | {"weight_squares": learner.weight_squares, "map_squares": learner.map_squares}


def _rows_by_key(towers: Towers) -> npt.NDArray[np.int64]:
    rows = towers.table.rows.rows()
    order: npt.NDArray[np.int64] = rows[np.argsort(towers.table.rows.data["key"][rows])]
    return order


def _arrays(towers: Towers, floats: str) -> dict[str, Array]:
    data = towers.table.rows.data[_rows_by_key(towers)]
    return {
        "keys": data["key"],
        "kinds": data["kind"].astype("|u1"),
        "vectors": data["vector"].astype(floats),
        "weights": towers.weights,
        "own_map": towers.own_map,
    }


def _towers(
    arrays: dict[str, Array], layout: dict[str, tuple[str, tuple[int, ...]]], version: str, max_rows: int = 0
) -> Towers:
    n = len(arrays.get("keys", ()))
    sized = {name: tuple(n if s < 0 else s for s in shape) for name, (_, shape) in layout.items()}
    expected = {name: (kind, sized[name]) for name, (kind, _) in layout.items()}
    got = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    if got != expected:
        raise ArtefactError(f"the towers' artefact has the arrays {got}, this code reads {expected}")
    keys, floats = arrays["keys"], [a for a in arrays.values() if a.dtype.kind == "f"]
    if n and (keys[0] == 0 or (keys[1:] <= keys[:-1]).any() or arrays["kinds"].max() >= len(KINDS)):
        raise ArtefactError("the towers' artefact has rows with wrong keys or kinds")
    if not all(np.isfinite(array).all() for array in floats):
        raise ArtefactError("the towers' artefact has numbers that are not finite")
    out = Towers(max(max_rows, n))
    rows = out.table.rows.take(keys)
    out.table.rows.data["kind"][rows] = arrays["kinds"]
    out.table.rows.data["vector"][rows] = arrays["vectors"]
    out.weights, out.own_map, out.version = arrays["weights"].copy(), arrays["own_map"].copy(), version
    return out


def _pack(arrays: dict[str, Array], numbers: dict[str, float]) -> bytes:
    described = {name: (array.dtype.str, list(array.shape)) for name, array in arrays.items()}
    head = msgspec.json.encode(_Head(FORMAT, DIM, list(KINDS), described, numbers))
    head += b" " * _gap(len(_MAGIC) + 4 + len(head))
    size = len(_MAGIC) + 4 + len(head) + sum(a.nbytes + _gap(a.nbytes) for a in arrays.values())
    if size > MAX_BODY:
        raise ArtefactError(f"the towers take {size} bytes, more than {MAX_BODY}: keep fewer rows")
    padded = [array.tobytes() + bytes(_gap(array.nbytes)) for array in arrays.values()]
    return b"".join([_MAGIC, len(head).to_bytes(4, "little"), head, *padded])


def _gap(size: int) -> int:
    """Return the bytes up to the next multiple of 8, where every array begins."""
    return -size % 8


def _unpack(body: bytes) -> tuple[dict[str, Array], dict[str, float]]:
    head, at = _head(body)
    sizes = {name: _size(name, *described) for name, described in head.arrays.items()}
    if len(body) != at + sum(sizes.values()):
        raise ArtefactError(f"the towers' artefact has {len(body)} bytes, not {at + sum(sizes.values())}")
    arrays = {}
    for name, (kind, shape) in head.arrays.items():
        arrays[name] = np.frombuffer(body, kind, math.prod(shape), at).reshape(shape)
        at += sizes[name]
    return arrays, head.numbers


def _head(body: bytes) -> tuple[_Head, int]:
    """Return the head and where the arrays begin, or raise ``ArtefactError``."""
    start = len(_MAGIC) + 4
    size = int.from_bytes(body[len(_MAGIC) : start], "little")
    if not body.startswith(_MAGIC) or len(body) > MAX_BODY or not 0 < size <= _MAX_HEAD:
        raise ArtefactError("not an artefact of the towers")
    try:
        head = msgspec.json.decode(body[start : start + size], type=_Head)
    except UNDECODABLE as exc:
        raise ArtefactError(f"not an artefact of the towers: {exc}") from exc
    theirs, ours = (head.format, head.dim, head.kinds), (FORMAT, DIM, list(KINDS))
    if theirs != ours:
        there, here = (f"format {f}, DIM {d}, kinds {', '.join(k)}" for f, d, k in (theirs, ours))
        raise ArtefactError(f"the towers' artefact was made for {there}; this code has {here}")
    return head, start + size


def _size(name: str, kind: str, shape: list[int]) -> int:
    if kind not in ("<u8", "<i8", "<u4", "|u1", "<f2", "<f4") or len(shape) > 2 or min(shape, default=0) < 0:
        raise ArtefactError(f"the towers' artefact has an array {name} of {kind} {shape}")
    size = math.prod(shape) * int(kind[2:])
    return size + _gap(size)
