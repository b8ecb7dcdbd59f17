"""Reads all fields of many items of a catalogue at once: of those in memory, and of those in a snapshot.

In the files of a snapshot every field is an array of its own, so that an item far from the last one costs a
wait for memory for each field. Here the fields of the next items are fetched while an item is read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

class MappedItems:
    """The columns of a snapshot.

    Parameters
    ----------
    column
        The files by name (``snapshot/files.py``).
    shut
        Which sets have a flag that is not shown, bool ``(sets,)``.

    Raises
    ------
    ValueError
        A column has another length than the keys, or another type.
    """

    def __init__(self, column: Mapping[str, npt.NDArray[Any]], shut: npt.NDArray[np.bool_]) -> None: ...

def items_of(rows: I64, own: npt.NDArray[np.void], mapped: MappedItems | None) -> npt.NDArray[np.void]:
    """Return all fields of items, ``catalog_row.ROW`` ``(n,)``; ``BLANK`` for row -1.

    Parameters
    ----------
    rows
        Rows of the catalogue, int64 ``(n,)``: those of the snapshot, then those in memory.
    own
        The items in memory, ``ROW``.
    mapped
        The snapshot; None without one.

    Raises
    ------
    IndexError
        There is no such row, or its names are not in the snapshot.
    ValueError
        ``own`` has rows of another size.
    """

def columns_in(items: npt.NDArray[np.void]) -> tuple[U64, U64, U64, I64, I64]:
    """Return category, creator, language, publication (ms) and duration (ms) of items, copies ``(n,)``.

    ``items`` is ``catalog_row.ROW`` ``(n,)``; ValueError for rows of another size.
    """

def keys_here(rows: I64, own: npt.NDArray[np.void], mapped: MappedItems | None) -> U64:
    """Return the keys of the items in memory, uint64 ``(n,)``; 0 for the others. As ``items_of``."""

def vectors_of(
    rows: I64, mapped: MappedItems | None, known: bool, places: I64, own: npt.NDArray[np.void], name: str
) -> F32:
    """Return the vectors of items, float32 ``(n, DIM)``; zeros where there is none.

    Parameters
    ----------
    rows
        Rows of the catalogue, int64 ``(n,)``; -1: none.
    mapped, known
        The snapshot, and whether its vectors are to be read.
    places, own, name
        For items in memory, the row of the vector in ``own``, int64 ``(n,)``; -1: there is none. For other
        items it does not count. The vector is the field ``name``: float32 ``(DIM,)``, or int8 ``(DIM,)``,
        as ``quantised.coarse`` makes it; then the vectors of that kind are read of the snapshot, too
        (``alike``).

    Raises
    ------
    IndexError
        There is no such row in ``own``.
    ValueError
        The vectors are of another type or length.
    """

def number_of(hashes: U64, order: I64, key: int) -> int:
    """Return the place of ``key`` among hashes, ``(n,)``; -1 where it is not there.

    ``order`` are the places in ascending order of the hash, ``(n,)``.
    """
