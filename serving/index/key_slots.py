"""Keys in ascending order with their rows, and a table over their top bits: what ``KeyTable`` searches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SLOT = np.dtype([("key", "<u8"), ("row", "<u4")])
#: An entry of the table stands for about this many keys.
_KEYS_AN_ENTRY = 4


class KeySlots(NamedTuple):
    """Sorted keys.

    Attributes
    ----------
    slots
        ``SLOT`` ``(n,)``, in ascending order of the key.
    table
        Number of keys that begin with fewer than each value of the top bits, uint32 ``(2**bits + 1,)``.
    bits
        How many top bits.
    """

    slots: npt.NDArray[Any]
    table: npt.NDArray[np.uint32]
    bits: int

    @classmethod
    def of(cls, keys: npt.NDArray[np.uint64]) -> KeySlots:
        """Sort keys, uint64 ``(n,)``; the row of each is its place.

        Raises
        ------
        ValueError
            When a key is there twice.
        """
        slots = np.empty(len(keys), SLOT)
        slots["row"] = np.argsort(keys)
        slots["key"] = keys[slots["row"]]
        again = slots["key"][1:] == slots["key"][:-1]
        if again.any():
            raise ValueError(f"two items have the key {slots['key'][1:][again][0]}")
        bits = max(1, min(28, (len(keys) // _KEYS_AN_ENTRY).bit_length()))
        tops = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
        table = np.append(np.searchsorted(slots["key"], tops), len(keys)).astype(np.uint32)
        return cls(slots, table, bits)
