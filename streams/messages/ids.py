"""Ids: strings in messages, 64-bit integers (hashes) in state.

Vectorised state needs columns of 64-bit integers. With 10 million items the probability that two of them have
the same hash is about 3 in a million (birthday bound, ``n**2 / 2**65``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

U64 = npt.NDArray[np.uint64]

#: Reserved id: no item, no category, no creator.
NONE: int = 0

_digest = xxhash.xxh3_64_intdigest
_EMPTY = np.uint64(_digest(b""))


def hash64(text: str) -> int:
    """Return the 64-bit id of ``text`` (xxh3); the empty string is ``NONE``."""
    return (_digest(text.encode()) or 1) if text else NONE


def hash_many(texts: Iterable[str]) -> U64:
    """Return the ids of ``texts``, uint64 ``(n,)``; the id of an empty string is ``NONE``."""
    texts = texts if isinstance(texts, Sequence) else list(texts)
    out = np.fromiter(map(_digest, map(str.encode, texts)), np.uint64, len(texts))
    out[out == NONE] = 1
    for i in np.flatnonzero(out == _EMPTY).tolist():
        out[i] = hash64(texts[i])
    return out


class KnownIds(dict[str, int]):
    """A cache of ids by text, for texts with few different values; at most ``limit`` entries."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, text: str) -> int:
        if len(self) >= self._limit:
            self.clear()
        self[text] = out = hash64(text)
        return out

    def many(self, texts: Sequence[str]) -> U64:
        """Return the ids of ``texts``, as ``hash_many`` does."""
        return np.fromiter(map(self.__getitem__, texts), np.uint64, len(texts))
