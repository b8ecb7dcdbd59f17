"""Items in columns, as they are given to a new snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.features import Features
from headrace.serving.index.quantised import Quantised

F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Ragged(Generic[T]):
    """A number of values for each of ``n`` items.

    Attributes
    ----------
    values, bounds
        Those of item ``i`` are ``values[bounds[i]:bounds[i + 1]]``; ``bounds`` is int64 ``(n + 1,)``.
    """

    values: npt.NDArray[T]
    bounds: I64

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def take(self, rows: I64) -> Ragged[T]:
        """Return the values of some items, in this order."""
        starts, sizes = self.bounds[rows], self.bounds[rows + 1] - self.bounds[rows]
        return pieces(self.values, starts, sizes)


def pieces(values: npt.NDArray[T], starts: I64, sizes: I64) -> Ragged[T]:
    """Return ``values[starts[i] : starts[i] + sizes[i]]`` of each ``i``."""
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int64)
    at = np.repeat(starts - bounds[:-1], sizes) + np.arange(bounds[-1])
    return Ragged(values[at], bounds)


def texts(of: Sequence[str]) -> Ragged[np.uint8]:
    """Return texts as UTF-8 bytes in one array."""
    encoded = [text.encode() for text in of]
    bounds = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    return Ragged(np.frombuffer(b"".join(encoded), np.uint8), bounds)


def id_sets(of: Iterable[Iterable[int]]) -> Ragged[np.uint64]:
    """Return a set of ids of each item, in ascending order, in one array."""
    sets = [sorted(set(some)) for some in of]
    bounds = np.fromiter(accumulate(map(len, sets), initial=0), np.int64, len(sets) + 1)
    return Ragged(np.fromiter((i for some in sets for i in some), np.uint64, int(bounds[-1])), bounds)


@dataclass(frozen=True, slots=True)
class Items:
    """Columns of ``n`` items.

    Attributes
    ----------
    key
        Hash of the id (``hash64``), uint64 ``(n,)``. No other item has it.
    category, creator, language
        Hashes, uint64 ``(n,)``; 0 where an item has none.
    published
        ms, int64 ``(n,)``.
    min_age, boost
        int16 and float32 ``(n,)``.
    duration
        ms, int64 ``(n,)``; 0: none.
    title
        Numbers of the titles (``titles.numbers_of``), uint32 ``(n,)``.
    flags
        Hashes of the flags, in ascending order.
    allowed, blocked
        Country rules: ``country_id`` of the countries, in ascending order. No allowed one: no such rule.
    ids, titles
        UTF-8.
    vectors
        Unit vectors, float32 ``(n, DIM)`` or quantised ones; zeros where an item has none.
    alike
        Content vectors (version 0) to two digits (``coarse``), int8 ``(n, DIM)``.
    content
        What the towers read of the items; ``own_at`` ascends.
    """

    key: U64
    category: U64
    creator: U64
    language: U64
    published: I64
    min_age: I16
    boost: F32
    duration: I64
    title: U32
    flags: Ragged[np.uint64]
    allowed: Ragged[np.uint64]
    blocked: Ragged[np.uint64]
    ids: Ragged[np.uint8]
    titles: Ragged[np.uint8]
    vectors: F32 | Quantised
    alike: I8
    content: Features

    def __len__(self) -> int:
        return len(self.key)
