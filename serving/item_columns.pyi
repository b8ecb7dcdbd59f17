"""The fields of many items in columns, compiled."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.schemas import Item

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

class ItemColumns(NamedTuple):
    """Fields of ``n`` items, arrays ``(n,)``.

    Attributes
    ----------
    category, creator, language
        Their hashes; 0 where an item has none.
    published
        ms.
    min_age, boost
        As they are.
    duration
        ms; 0: none.
    ruled, flagged
        Places of the items with country rules, and of those with flags, ascending.
    """

    category: U64
    creator: U64
    language: U64
    published: I64
    min_age: I16
    boost: F32
    duration: I64
    ruled: I64
    flagged: I64

def columns_of(items: list[Item], k0: int, k1: int) -> ItemColumns:
    """Return the fields of items; ``k0`` and ``k1`` are the key of hashes of ids (``ids.words``)."""
