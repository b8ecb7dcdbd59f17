"""Rows of a table in the order of their age, newest first, in blocks: a change moves one block only."""

from array import array
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
#: Row numbers, 32 bits, newest first; no block is empty.
Blocks: TypeAlias = "list[array[int]]"

class NewestRows:
    """Finds, adds and removes rows in blocks; the order is: newest first, ties by key.

    Parameters
    ----------
    data
        The rows: fields ``key`` (uint64) and ``published`` (int64, ms). An array that is referenced here is
        not resized by its table: make a new one after a change of the table.
    """

    def __init__(self, data: npt.NDArray[Any]) -> None: ...
    def add(self, blocks: Blocks, rows: I64) -> None:
        """Add rows, int64 ``(n,)``."""

    def remove(self, blocks: Blocks, rows: I64) -> None:
        """Remove rows that are there."""

    def add_to_groups(self, groups: dict[int, Blocks], rows: I64, group: U64) -> None:
        """Add each row to the blocks of its group, uint64 ``(n,)``; 0 is none."""

    def remove_from_groups(self, groups: dict[int, Blocks], rows: I64, group: U64) -> None:
        """Remove each row from the blocks of its group; a group without rows is dropped."""

    def newest(self, blocks: Blocks, now: int, k: int) -> I32:
        """Return the first ``k`` rows of a time not after ``now`` (ms), newest first, int32 ``(<=k,)``."""

    def order(self, rows: I64 | I32) -> npt.NDArray[np.intp]:
        """Return the places of rows in the order of their age, ``(n,)``."""

def first_rows(
    rows: I32, published: I64, hidden: npt.NDArray[np.uint8], now: int, k: int, after: int | None = None
) -> I32:
    """Return the first ``k`` rows of a time not after ``now`` (ms) that are not hidden, int32 ``(<=k,)``.

    Parameters
    ----------
    rows
        Rows, int32 ``(n,)``, newest first.
    published
        Time of every row there is, ms, ``(m,)``.
    hidden
        A bit for each of the ``m``, eight in a byte, the lowest bit first.
    after
        Rows of this time (ms) or before are left out.

    Raises
    ------
    IndexError
        When there is no such row.
    """

def in_blocks(rows: I32) -> Blocks:
    """Cut rows that are in order into blocks."""
