"""What users clicked last, as it was before each of their clicks: for the learner of the towers. Pure.

The rows of users say what they clicked up to now; the learner needs what they had clicked before the click
that it learns. So it keeps a table of its own, in bounded memory.
"""

from __future__ import annotations

import numpy as np

from headrace.models.embeddings.directions import U64
from headrace.models.embeddings.features import I64
from headrace.models.embeddings.towers import PLACES
from headrace.streams.tables.rows import RowTable

_ROW = np.dtype([("key", "<u8"), ("updated", "<i8"), ("recent", "<u8", (PLACES,))])
#: When the table is full, this share of its users goes: those who did not click for longest.
_DROPPED = 0.1


class RecentClicks:
    """The last ``PLACES`` items of each user, in the order in which clicks are given.

    Parameters
    ----------
    max_users
        Largest number of users, about 190 bytes each.
    """

    def __init__(self, max_users: int = 200_000) -> None:
        self.max_users = max_users
        self._table = RowTable(_ROW)

    def __len__(self) -> int:
        return len(self._table)

    def add(self, users: U64, items: U64, ts: I64) -> U64:
        """Add ``n`` clicks; return what each user had clicked before, newest first, uint64 ``(n, PLACES)``.

        Parameters
        ----------
        users, items
            Keys, uint64 ``(n,)``; a user may occur several times.
        ts
            Times, ms, int64 ``(n,)``.
        """
        n = len(users)
        if not n:
            return np.zeros((0, PLACES), np.uint64)
        order = np.argsort(users, kind="stable")
        first = np.ones(n, bool)
        first[1:] = users[order][1:] != users[order][:-1]
        starts = np.flatnonzero(first)
        self._make_room(self._table.find(users[order][starts]))
        rows = self._table.take(users[order][starts])
        # One line for each user: what was stored, oldest first, then the clicks. The last PLACES before a
        # click are never those of another user.
        ahead = PLACES * np.cumsum(first)
        line = np.zeros(n + PLACES * len(starts), np.uint64)
        line[np.arange(n) + ahead] = items[order]
        stored = starts + PLACES * np.arange(len(starts))
        line[stored[:, None] + np.arange(PLACES)] = self._table.data["recent"][rows]
        before = line[(np.arange(n) + ahead)[:, None] - 1 - np.arange(PLACES)]
        ends = np.append(starts[1:], n) + PLACES * np.arange(1, len(starts) + 1)
        self._table.data["recent"][rows] = line[ends[:, None] - PLACES + np.arange(PLACES)]
        newest = np.maximum.reduceat(ts[order], starts)
        self._table.data["updated"][rows] = np.maximum(self._table.data["updated"][rows], newest)
        out: U64 = np.empty_like(before)
        out[order] = before
        return out

    def _make_room(self, wanted: I64) -> None:
        """Drop users, but none of those whose rows (-1: new) are wanted."""
        surplus = len(self._table) + int(np.count_nonzero(wanted < 0)) - self.max_users
        if surplus <= 0:
            return
        rows = np.setdiff1d(self._table.rows(), wanted)
        keys, updated = self._table.data["key"][rows], self._table.data["updated"][rows]
        surplus += int(self.max_users * _DROPPED)
        self._table.drop(keys[np.lexsort((keys, updated))[:surplus]])
