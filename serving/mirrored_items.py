"""The item rows that a serving worker keeps: whole rows of active items, a few values of the idle ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import ROW, ItemState
from headrace.serving.old_rows import OldRows
from headrace.serving.sources.trending import Trending
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.tables.row_records import RowRecords
from headrace.streams.tables.rows import unpack

I64 = npt.NDArray[np.int64]

#: An item is idle when it has had no event for this long: all its windows that are read (of a day at most)
#: are empty then, also for a request that is a day old.
IDLE_MS = 2 * DAY_MS + HOUR_MS
#: Most whole rows kept (1 kB each), and most idle items (64 bytes each).
MOST_ITEM_ROWS, MOST_IDLE_ITEMS = 500_000, 20_000_000


class MirroredItems:
    """Applies item rows to the state of a worker; bounds their memory.

    An idle item has no whole row: what features read of it is in ``stats.idle``, so their values are the
    same. Its row comes back whole with its next event. When more items than ``most`` are active, those
    whose last event is longest ago (of a sample) lose their windows, too.

    Parameters
    ----------
    stats
        Gets the rows.
    trending
        Is told which rows changed.
    most, most_idle
        Most whole rows, and most idle items.
    """

    def __init__(
        self,
        stats: ItemState,
        trending: Trending,
        most: int = MOST_ITEM_ROWS,
        most_idle: int = MOST_IDLE_ITEMS,
    ) -> None:
        self._stats, self._trending = stats, trending
        self._old, self._old_idle = OldRows(most, "updated"), OldRows(most_idle, "last_click")

    def apply(self, records: RowRecords, now: int) -> int:
        """Apply changelog records; return how many rows were stored. At ``now`` 0 no item is idle."""
        table, idle = self._stats.table, self._stats.idle
        if len(records.deleted):
            table.drop(records.deleted)
            idle.drop(records.deleted)
            self._trending.dropped(records.deleted)
        if not now:
            stored = table.load(records.rows)
            self._active(records.keys)
            return stored
        stored = self._load(records.rows, now - IDLE_MS)
        self._let_go(now - IDLE_MS, len(records.rows))
        self._trending.catch_up(now)
        return stored

    def _active(self, keys: npt.NDArray[np.uint64]) -> None:
        rows = self._stats.table.find(keys)
        rows = rows[rows >= 0]
        self._stats.idle.drop(self._stats.table.data["key"][rows])
        self._trending.changed(rows)

    def _load(self, packed: Sequence[bytes], before: int) -> int:
        """Store rows: whole ones, or the values of those whose last event was before a time (ms)."""
        table, idle = self._stats.table, self._stats.idle
        rows, sound = unpack(packed, ROW)
        table.refused += len(rows) - int(np.count_nonzero(sound))
        if len(idle):
            sound &= ~idle.newer(rows["key"], rows["offset"])
        rests = sound & (rows["updated"] < before) & (table.find(rows["key"]) < 0)
        stored = 0
        if rests.any():
            stored += idle.put(rows[rests])
            sound &= ~rests
        whole = rows if sound.all() else rows[sound]
        stored += table.load(whole)
        self._active(np.ascontiguousarray(whole["key"]))
        if rests.any():
            self._trending.idle(np.ascontiguousarray(rows["key"][rests]))
        return stored

    def _let_go(self, before: int, loaded: int) -> None:
        """Make items idle, and forget the oldest of too many idle ones."""
        table, idle = self._stats.table, self._stats.idle
        rows = self._old.choose(table, before, loaded)
        if len(rows):
            keys = table.data["key"][rows]
            idle.put(table.data[rows])
            table.drop(keys)
            self._trending.idle(keys)
        rows = self._old_idle.choose(idle.table, 0, loaded)
        if len(rows):
            keys = idle.table.data["key"][rows]
            idle.drop(keys)
            self._trending.dropped(keys)
