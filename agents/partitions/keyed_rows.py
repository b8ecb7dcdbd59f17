"""Rows found by a 64-bit key that may occur several times, forgotten in the order of a number in them. Pure.

The rows are in runs, each sorted by key. A new run is merged with those before it that are not much longer.
So there are few runs, and a row is copied a few times in all::

    add 3 5 7     [3 5 7]
    add 9         [3 5 7] [9]       not merged: the run before is more than twice as long
    add 4 6       [3 4 5 6 7 9]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
U64 = npt.NDArray[np.uint64]


class _Run(NamedTuple):
    keys: U64  # apart from the rows: a search in a column of an array of rows would copy the column
    rows: Rows
    newest: int  # the largest ``order``


class KeyedRows:
    """Rows by key.

    Memory is bounded by about twice the rows that are not forgotten.

    Parameters
    ----------
    dtype
        Of a row, without the key.
    order
        Name of the i8 field by which rows are forgotten.
    """

    def __init__(self, dtype: np.dtype[Any], order: str) -> None:
        self._nothing: Rows = np.empty(0, dtype)
        self._order = order
        self._runs: list[_Run] = []
        self._before = -(1 << 62)

    def __len__(self) -> int:
        """Return how many rows are held, those included that are forgotten and not removed yet."""
        return sum(len(run.keys) for run in self._runs)

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""
        return sum(run.keys.nbytes + run.rows.nbytes for run in self._runs)

    def add(self, keys: U64, rows: Rows) -> None:
        """Add rows and their keys, both ``(n,)``."""
        while self._runs and len(self._runs[-1].keys) <= 2 * len(keys):
            run = self._runs.pop()
            kept = run.rows[self._order] >= self._before
            keys, rows = np.concatenate([run.keys[kept], keys]), np.concatenate([run.rows[kept], rows])
        self._append(keys, rows)

    def _append(self, keys: U64, rows: Rows) -> None:
        if len(keys):
            by_key = np.argsort(keys, kind="stable")
            self._runs.append(_Run(keys[by_key], rows[by_key], int(rows[self._order].max())))

    def find(self, keys: U64) -> tuple[U64, Rows]:
        """Return the rows with one of these keys, and the key of each, in no particular order."""
        wanted = np.unique(keys)
        found_keys, found = [wanted[:0]], [self._nothing]
        for run in self._runs:
            begin, end = (run.keys.searchsorted(wanted, side) for side in ("left", "right"))
            count = end - begin
            # Row numbers of every range one after the other.
            at = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
            at = at[run.rows[self._order][at] >= self._before]
            found_keys.append(run.keys[at])
            found.append(run.rows[at])
        return np.concatenate(found_keys), np.concatenate(found)

    def forget(self, before: int) -> None:
        """Forget the rows whose ``order`` is smaller than ``before``."""
        if before > self._before:
            self._before = before
            self._runs = [run for run in self._runs if run.newest >= before]

    def cut(self, end: int) -> None:
        """Remove the rows whose ``order`` is ``end`` or larger; new rows may have it again."""
        runs, self._runs = self._runs, []
        for run in runs:
            kept = run.rows[self._order] < end
            self._append(run.keys[kept], run.rows[kept])
