"""Rows of a table in the order of their age, newest first, in blocks: a change moves one block only."""

from __future__ import annotations

from array import array
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
#: Row numbers, 32 bits, newest first; no block is empty.
Blocks: TypeAlias = "list[array[int]]"

#: A block of more rows than this is cut in two.
_LARGEST = 512


class NewestRows:
    """Finds, adds and removes rows in blocks; the order is: newest first, ties by key.

    Parameters
    ----------
    data
        The rows: fields ``key`` (uint64) and ``published`` (int64, ms).
    """

    __slots__ = ("_data", "_key", "_published")

    def __init__(self, data: npt.NDArray[Any]) -> None:
        self._data = data
        self._key: memoryview[int] = data["key"].data
        self._published: memoryview[int] = data["published"].data

    def _place(self, blocks: Blocks, published: int, key: int) -> tuple[int, int]:
        """Return block and place of the first row that is not before a time and a key."""
        low, high = 0, len(blocks) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._before(blocks[middle][0], published, key):
                low = middle
            else:
                high = middle - 1
        if not blocks:
            return 0, 0
        block, place, end = blocks[low], 0, len(blocks[low])
        while place < end:
            middle = (place + end) // 2
            if self._before(block[middle], published, key):
                place = middle + 1
            else:
                end = middle
        return low, place

    def _before(self, row: int, published: int, key: int) -> bool:
        time = self._published[row]
        return time > published or (time == published and self._key[row] < key)

    def add(self, blocks: Blocks, row: int) -> None:
        """Add a row."""
        if not blocks:
            blocks.append(array("i", [row]))
            return
        at, place = self._place(blocks, self._published[row], self._key[row])
        block = blocks[at]
        block.insert(place, row)
        if len(block) > _LARGEST:
            half = len(block) // 2
            blocks[at : at + 1] = [block[:half], block[half:]]

    def remove(self, blocks: Blocks, row: int) -> None:
        """Remove a row that is there."""
        at, place = self._place(blocks, self._published[row], self._key[row])
        if place == len(blocks[at]):  # it is the first of the next block
            at, place = at + 1, 0
        del blocks[at][place]
        if not blocks[at]:
            del blocks[at]

    def newest(self, blocks: Blocks, now: int, k: int) -> I32:
        """Return the first ``k`` rows of a time not after ``now`` (ms), newest first, int32 ``(<=k,)``."""
        at, place = self._place(blocks, now, 0)
        found = array("i")
        while at < len(blocks) and len(found) < k:
            found += blocks[at][place : place + k - len(found)]
            at, place = at + 1, 0
        return np.frombuffer(found, np.int32) if found else np.zeros(0, np.int32)

    def order(self, rows: I64 | I32) -> npt.NDArray[np.intp]:
        """Return the places of rows in the order of their age, ``(n,)``."""
        return np.lexsort((self._data["key"][rows], -self._data["published"][rows]))


def in_blocks(rows: I32) -> Blocks:
    """Cut rows that are in order into blocks."""
    size = len(rows) if len(rows) <= _LARGEST else _LARGEST // 2
    return [array("i", rows[at : at + size].tobytes()) for at in range(0, len(rows), max(1, size))]
