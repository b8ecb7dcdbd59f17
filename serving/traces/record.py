"""The record of a trace: what one list was made from, and the reply that it became.

It has the candidates with their sources, features and scores, the columns that the re-rank stage read, the
rules, the numbers of the online model, and how far the leaves of the ranker had moved. It does not have the
ranker itself, which has a version and is in the registry; nor the catalogue and rows behind the features.

A record is small because bytes of the same significance are together, columns of few different numbers are
their numbers and the place of each among them, and zstd does the rest. So every number comes back exactly.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard
from msgspec import Struct

from headrace.streams.errors import TraceError
from headrace.streams.messages.schemas import RecReply, RecRequest

#: The first byte of a record; another one is of another version of this file.
FORMAT: Final = b"\x02"
#: Largest record, bytes, packed and not. A list of 500 candidates needs about 0.07 MB, and 0.2 MB.
MOST_BYTES: Final = 3 * 1024 * 1024
MOST_UNPACKED: Final = 64 * 1024 * 1024
#: Columns of so many bytes a number are looked through for few different numbers: at most these.
_WIDE: Final = 4
_MOST_FEW: Final = 256
_LEVEL: Final = 3
_DTYPES: Final = frozenset({"<f4", "<f8", "<i8", "<u4", "<u8", "|b1", "|i1"})


#: An array; in the record, a ``Column``.
Array: TypeAlias = npt.NDArray[Any]


class Column(Struct, frozen=True, array_like=True):
    """An array as it is written. Its bytes are in the order of their significance: so they can be compressed.

    Attributes
    ----------
    few
        Of each column of a matrix, how many different numbers it has, when these are few; else 0. The data of
        a column with few has these numbers, and then one byte for each row. Empty: no column is like that.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes
    few: tuple[int, ...] = ()


class HeadTrace(Struct):
    """What foresees one more objective of the online model; attributes as of ``OnlineTrace``."""

    weights: Array
    bias: float
    terms: Array


class OnlineTrace(Struct):
    """The online model: ``terms`` are the weights of the hashed ids of each one kept, float32 ``(k, 4)``.

    ``heads`` and ``shares``, as in ``OnlineWeights``, are only there when its scores made the list.
    """

    mean: Array
    scale: Array
    weights: Array
    bias: float
    terms: Array
    heads: dict[str, HeadTrace] = {}
    shares: dict[str, float] = {}


class MovedTrace(Struct):
    """How far the leaves of the ranker had moved; ``terms``: of user and item, float32 ``(k, 2)``."""

    deltas: Array
    terms: Array


class RankedTrace(Struct):
    """What a ranked list was made from; columns of the candidates have the length n.

    Some columns have only the ``kept`` candidates: all that the making of the list looked at closely, and the
    best of the others.

    Attributes
    ----------
    now
        Time asked, ms.
    kept
        Places of the candidates that are kept, in their order; None: all.
    keys, ids
        Those kept; an id is empty when the catalogue had lost it a moment later.
    mask, names
        The sources of each kept one, and their names.
    filtered
        By filter, how many items it was given and kept.
    repeated, places
        As in ``Pool``.
    titles
        A number for each title of those kept, the same for the same one; 0: too short to be compared.
    features, scores
        As they were given to the scorer (with the score of the online model), of those kept; and its scores.
    scorer
        Whose scores they are; empty: nobody's.
    choices
        What the re-rank stage read of the candidates, besides the scores. Creators, categories and titles
        are numbered; 0: none. Vectors are of those kept; when they have two digits only, they are int8
        (``quantised.coarse``).
    rules
        Its numbers.
    late
        The late filters.
    together
        What ``blend.together_of`` says of all candidates; None where it is not logged.
    """

    now: int
    kept: Array | None
    keys: Array
    ids: list[str]
    mask: Array
    names: list[str]
    filtered: list[tuple[str, int, int]]
    repeated: Array
    places: Array | None
    titles: Array
    features: Array
    scores: Array
    scorer: str
    choices: dict[str, Array]
    rules: dict[str, Any]
    late: list[str]
    online: OnlineTrace | None
    moved: MovedTrace | None
    together: float | None = None


class PopularTrace(Struct):
    """What a popular list was made from; see ``popular.Popular``."""

    keys: Array
    ids: list[str]
    mask: Array
    names: list[str]
    clicks: Array
    rank: Array
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


def _packed(array: Any) -> Column:
    """Return an array as it is written."""
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES:
        raise TypeError(f"no column of a trace has the type {dtype.str}")
    columns = np.ascontiguousarray(array.T.astype(dtype, copy=False))
    rows = array.shape[0]
    if dtype.itemsize < _WIDE or not array.size:
        return Column(dtype.str, array.shape, _shuffled(columns.ravel()))
    bits = columns.reshape(-1, rows).view(f"<u{dtype.itemsize}")
    most = min(rows // 2, _MOST_FEW)
    ordered, first = np.sort(bits, axis=1), np.ones(bits.shape, bool)  # all columns at once
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    counts = first.sum(axis=1)
    few: list[int] = np.where(counts <= most, counts, 0).tolist()
    parts = []
    for at in np.flatnonzero(few).tolist():
        values = ordered[at][first[at]]
        places = np.searchsorted(values, bits[at]).astype(np.uint8)
        parts.append(_shuffled(values) + places.tobytes())
    rest = _shuffled(bits[np.array(few) == 0].ravel())
    return Column(dtype.str, array.shape, b"".join(parts) + rest, tuple(few) if parts else ())


def _shuffled(flat: Array) -> bytes:
    return flat.view(np.uint8).reshape(-1, flat.itemsize).T.tobytes()


def _unpacked(_: type, written: Any) -> Array:
    """Return an array that was written, in C order; raise ``TraceError`` when it is none."""
    column = msgspec.convert(written, Column)
    if column.dtype not in _DTYPES or min(column.shape, default=1) < 0:
        raise TraceError(f"no column of a trace has the type {column.dtype!r} and shape {column.shape}")
    dtype = np.dtype(column.dtype)
    try:
        if column.few:
            return _of_few(column, dtype)
        flat = _plain(column.data, dtype)
        return np.ascontiguousarray(flat.reshape(column.shape[::-1]).T)
    except (ValueError, IndexError) as exc:
        raise TraceError(f"a column has not as many numbers as its shape {column.shape} says") from exc


def _plain(data: bytes, dtype: np.dtype[Any]) -> Array:
    each = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(each.T).ravel().view(dtype)


def _of_few(column: Column, dtype: np.dtype[Any]) -> Array:
    """Return an array of which some columns have few different numbers."""
    rows, size, at = column.shape[0], dtype.itemsize, 0
    if rows > len(column.data):  # a column has a byte for each row at least
        raise ValueError(f"{rows} rows in {len(column.data)} bytes")
    out = np.empty((len(column.few), rows), dtype)
    for row, few in zip(out, column.few, strict=True):
        if few:
            values = _plain(column.data[at : at + few * size], dtype)
            at += few * size + rows
            row[:] = values[np.frombuffer(column.data[at - rows : at], np.uint8)]
    out[np.array(column.few) == 0] = _plain(column.data[at:], dtype).reshape(-1, rows)
    return np.ascontiguousarray(out.reshape(column.shape[::-1]).T)


def encode(trace: Trace) -> bytes:
    """Return the record value: MessagePack, compressed."""
    zstd = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    return FORMAT + zstd.compress(msgspec.msgpack.encode(trace, enc_hook=_packed))


def decode(value: bytes) -> Trace:
    """Return the trace in a record; raise ``TraceError`` when it is none, or damaged."""
    if value[:1] != FORMAT:
        raise TraceError(
            f"the trace is of another version of Headrace (layout {value[:1].hex()}, not {FORMAT.hex()})"
        )
    try:
        if not 0 < zstandard.frame_content_size(value[1:]) <= MOST_UNPACKED:
            raise TraceError("the trace is damaged: it is too large, or does not say its size")
        body = zstandard.ZstdDecompressor().decompress(value[1:], allow_extra_data=False)
        return msgspec.msgpack.decode(body, type=Trace, dec_hook=_unpacked)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise TraceError(f"the trace is damaged: {exc}") from exc
