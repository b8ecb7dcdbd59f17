"""Rows of a table in the order of their age, newest first, in blocks: a change moves one block only."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
#: Row numbers, int32, newest first; no block is empty.
Blocks: TypeAlias = list[I32]

#: A block of more rows than this is cut in two.
_LARGEST = 1024


class NewestRows:
    """Finds, adds and removes rows in blocks; the order is: newest first, ties by key.

    Parameters
    ----------
    data
        The rows: fields ``key`` (uint64) and ``published`` (int64, ms).
    """

    __slots__ = ("_key", "_published")

    def __init__(self, data: npt.NDArray[Any]) -> None:
        self._key: U64 = data["key"]
        self._published: I64 = data["published"]

    def place(self, blocks: Blocks, published: int, key: int) -> tuple[int, int]:
        """Return block and place of the first row that is not before a time and a key."""
        low, high = 0, len(blocks) - 1  # the block is between them, both included
        while low < high:
            middle = (low + high + 1) // 2
            first = blocks[middle][0]
            time = int(self._published[first])
            if time > published or (time == published and int(self._key[first]) <= key):
                low = middle
            else:
                high = middle - 1
        if not blocks:
            return 0, 0
        block = blocks[low]
        age = -self._published[block]
        left = int(age.searchsorted(-published))
        if left < len(block) and age[left] == -published:
            right = int(age.searchsorted(-published, "right"))
            left += int(self._key[block[left:right]].searchsorted(np.uint64(key)))
        return low, left

    def add(self, blocks: Blocks, row: int) -> None:
        """Add a row."""
        at, place = self.place(blocks, int(self._published[row]), int(self._key[row]))
        new = np.array([row], np.int32)
        if not blocks:
            blocks.append(new)
            return
        block = np.concatenate((blocks[at][:place], new, blocks[at][place:]))
        half = len(block) // 2
        blocks[at : at + 1] = (
            [block] if len(block) <= _LARGEST else [block[:half].copy(), block[half:].copy()]
        )

    def remove(self, blocks: Blocks, row: int) -> None:
        """Remove a row that is there."""
        at, place = self.place(blocks, int(self._published[row]), int(self._key[row]))
        block = np.concatenate((blocks[at][:place], blocks[at][place + 1 :]))
        blocks[at : at + 1] = [block] if len(block) else []

    def newest(self, blocks: Blocks, now: int, k: int) -> I32:
        """Return the first ``k`` rows of a time not after ``now`` (ms), newest first, int32 ``(<=k,)``."""
        at, place = self.place(blocks, now, 0)
        found, count = list[I32](), 0
        while at < len(blocks) and count < k:
            found.append(blocks[at][place : place + k - count])
            count += len(found[-1])
            at, place = at + 1, 0
        return np.concatenate(found) if found else np.zeros(0, np.int32)

    def order(self, rows: I64 | I32) -> npt.NDArray[np.intp]:
        """Return the places of rows in the order of their age, ``(n,)``."""
        return np.lexsort((self._key[rows], -self._published[rows]))


def in_blocks(rows: I32) -> Blocks:
    """Cut rows that are in order into blocks."""
    if len(rows) <= _LARGEST:
        return [rows]
    return [rows[at : at + _LARGEST // 2] for at in range(0, len(rows), _LARGEST // 2)]
