"""The record of a trace: what one list was made from, and the reply that it became.

It has the candidates with their sources, features and scores, the columns that the re-rank stage read, the
rules, the numbers of the online model, and how far the leaves of the ranker had moved. It does not have the
ranker itself, which has a version and is in the registry; nor the catalogue and rows behind the features.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from headrace.streams.errors import TraceError
from headrace.streams.messages.schemas import RecReply, RecRequest

#: The first byte of a record; another one is of another version of this file.
FORMAT: Final = b"\x01"
#: Largest record, bytes, packed and not. A list of 500 candidates needs about 0.1 MB, and 0.5 MB.
MOST_BYTES: Final = 3 * 1024 * 1024
MOST_UNPACKED: Final = 64 * 1024 * 1024
_DTYPES: Final = frozenset({"<f4", "<f8", "<i8", "<u4", "<u8", "|b1", "|i1"})


class Column(Struct, frozen=True, array_like=True):
    """An array. Its bytes are in the order of their significance: so they can be compressed."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class OnlineTrace(Struct):
    """The online model: ``terms`` are the weights of the hashed ids of each candidate, float32 ``(n, 4)``."""

    mean: Column
    scale: Column
    weights: Column
    bias: float
    terms: Column


class MovedTrace(Struct):
    """How far the leaves of the ranker had moved; ``terms``: of user and item, float32 ``(n, 2)``."""

    deltas: Column
    terms: Column


class RankedTrace(Struct):
    """What a ranked list was made from; columns of the candidates have the length n.

    Attributes
    ----------
    now
        Time asked, ms.
    keys, ids
        The candidates; an id is empty when the catalogue had lost it a moment later.
    mask, names
        The sources of each, and their names.
    filtered
        By filter, how many items it was given and kept.
    repeated, places
        As in ``Pool``.
    titles
        Hash of each title; 0: too short to be compared.
    features, scores
        As they were given to the scorer (with the score of the online model), and its scores.
    scorer
        Whose scores they are; empty: nobody's.
    choices
        What the re-rank stage read of the candidates, besides the scores. Vectors that have two digits only
        are int8 (``quantised.coarse``).
    rules
        Its numbers.
    late
        The late filters.
    """

    now: int
    keys: Column
    ids: list[str]
    mask: Column
    names: list[str]
    filtered: list[tuple[str, int, int]]
    repeated: Column
    places: Column | None
    titles: Column
    features: Column
    scores: Column
    scorer: str
    choices: dict[str, Column]
    rules: dict[str, Any]
    late: list[str]
    online: OnlineTrace | None
    moved: MovedTrace | None


class PopularTrace(Struct):
    """What a popular list was made from; see ``popular.Popular``."""

    keys: Column
    ids: list[str]
    mask: Column
    names: list[str]
    clicks: Column
    rank: Column
    wanted: int


class Trace(Struct):
    """What one list was made from.

    Attributes
    ----------
    request
        The request for this list.
    whole
        Id of the request as it came: of a page, or that of this list.
    part, parts
        Number of this list, from 0 on, and of the lists of the request.
    ts
        When the reply was made, ms.
    share
        Share of the requests that the worker traced.
    spec
        Version of the features.
    reply
        The list as it was sent.
    took_ms, state, digest
        Of the whole reply: two of its fields, and the SHA-256 of its bytes.
    why
        By item, why it is on the list.
    ranked, popular
        What it was made from; both None: there was no list.
    """

    request: RecRequest
    whole: str
    part: int
    parts: int
    ts: int
    share: float
    spec: str
    reply: RecReply
    took_ms: float
    state: str
    digest: bytes
    why: dict[str, list[str]]
    ranked: RankedTrace | None
    popular: PopularTrace | None


def packed(array: npt.NDArray[Any]) -> Column:
    """Return an array as it is logged."""
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES:
        raise TypeError(f"no column of a trace has the type {dtype.str}")
    flat = np.ascontiguousarray(array.T.astype(dtype, copy=False)).ravel()
    data = flat.view(np.uint8).reshape(-1, dtype.itemsize).T
    return Column(dtype.str, array.shape, data.tobytes())


def unpacked(column: Column) -> npt.NDArray[Any]:
    """Return a logged array, in C order; raise ``TraceError`` when it is none."""
    if column.dtype not in _DTYPES or min(column.shape, default=1) < 0:
        raise TraceError(f"no column of a trace has the type {column.dtype!r} and shape {column.shape}")
    dtype = np.dtype(column.dtype)
    try:
        each = np.frombuffer(column.data, np.uint8).reshape(dtype.itemsize, -1)
        flat = np.ascontiguousarray(each.T).ravel().view(dtype)
        return np.ascontiguousarray(flat.reshape(column.shape[::-1]).T)
    except ValueError as exc:
        raise TraceError(f"a column has not as many numbers as its shape {column.shape} says") from exc


def encode(trace: Trace) -> bytes:
    """Return the record value: MessagePack, compressed."""
    return FORMAT + zlib.compress(msgspec.msgpack.encode(trace), 1)


def decode(value: bytes) -> Trace:
    """Return the trace in a record; raise ``TraceError`` when it is none, or damaged."""
    if value[:1] != FORMAT:
        raise TraceError("the trace is of another version of Headrace")
    try:
        unzip = zlib.decompressobj()
        body = unzip.decompress(value[1:], MOST_UNPACKED)
        if not unzip.eof:
            raise TraceError("the trace is damaged: it is cut off, or too large")
        return msgspec.msgpack.decode(body, type=Trace)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise TraceError(f"the trace is damaged: {exc}") from exc
