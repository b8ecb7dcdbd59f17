"""Ids: strings outside, 64-bit integers inside.

Columns of 64-bit integers are what makes vectorised state possible. At 10 million items the chance that any
two share a hash is about 3 in a million (birthday bound, ``n**2 / 2**65``).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash

U64 = npt.NDArray[np.uint64]

#: Reserved: "no item", "no category", "no creator".
NONE: int = 0

_digest = xxhash.xxh3_64_intdigest


def hash64(text: str) -> int:
    """Return the 64-bit id of ``text`` (xxh3); the empty string is ``NONE``."""
    return (_digest(text.encode()) or 1) if text else NONE


def hash_many(texts: Iterable[str]) -> U64:
    """Return the ids of ``texts``, uint64, shape ``(n,)``; empty strings are ``NONE``."""
    return np.array([(_digest(t.encode()) or 1) if t else 0 for t in texts], dtype=np.uint64)
