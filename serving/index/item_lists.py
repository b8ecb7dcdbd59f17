"""The most popular items, of the last minutes, hours and days and of all time, from item rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import COUNTS, ItemState
from headrace.serving.index.leaders import U64, Leaders
from headrace.serving.index.window_leaders import I64, WindowLeaders
from headrace.streams.settings import DAY_MS, HOUR_MS

#: ``today`` is the last hours, as many as this; it is so many times as long as the others.
HOURS, LONGER = 6, 5
#: ``days`` is the present day (UTC) and the one before it: an item is idle later than that.
DAYS = 2
#: Rows passed by a scan for each one that is counted.
_PASSED = 8


class ItemLists:
    """Leaders of the item rows of a worker, and the scan over all rows that one of them may need.

    Parameters
    ----------
    stats
        Item rows.
    size
        Length of a list.
    room
        Number of items held for each list after a trim.

    Attributes
    ----------
    hour, rising, today, days, ever
        Leaders by clicks of one hour, of five minutes, of ``HOURS``, of ``DAYS``, of all time. ``today`` is
        ``LONGER``.
    """

    def __init__(self, stats: ItemState, size: int, room: int) -> None:
        self._stats = stats
        find = stats.table.find
        self.hour = WindowLeaders(stats.table, "1h", size, key="key", find=find, room=room)
        self.rising = WindowLeaders(stats.table, "5m", size, key="key", find=find, room=room)
        self.today = WindowLeaders(
            stats.table, "24h", LONGER * size, key="key", find=find, room=LONGER * room, buckets=HOURS
        )
        self.days = WindowLeaders(stats.table, "7d", size, key="key", find=find, room=room, buckets=DAYS)
        self.ever = Leaders(size, room)
        self._row = self._idle_row = 0  # what the scan comes to next

    @property
    def scanning(self) -> bool:
        """Whether a scan has begun and not ended."""
        return any(leaders.scanning for leaders in self._all())

    def _all(self) -> tuple[Leaders, ...]:
        return *self._windows(), self.ever

    def _windows(self) -> tuple[WindowLeaders, ...]:
        return self.hour, self.rising, self.today, self.days

    def restart(self) -> None:
        """Begin anew: scan all rows."""
        for leaders in self._all():
            leaders.restart()
        self._begin()

    def advance(self, now: int) -> int:
        """Move the windows to ``now`` (ms); return how many rows were counted for it."""
        if any(leaders.goes_back(now) for leaders in self._windows()):
            self._begin()
        counted = sum(leaders.advance(now) for leaders in self._windows())
        self._begin_low()
        return counted

    def count(self, rows: I64, now: int) -> None:
        """Count rows that have changed; int64 ``(n,)``. Rows that were dropped meanwhile are left out."""
        rows = rows[self._stats.table.data["key"][rows] != 0]
        for leaders in self._windows():
            leaders.count(rows, now)
        self._count_ever(rows)

    def _count_ever(self, rows: I64) -> None:
        data = self._stats.table.data
        clicks = COUNTS.totals(data, "click", rows).astype(np.float32)
        self.ever.put(data["key"][rows], clicks, clicks)

    def idle(self, keys: U64) -> None:
        """Take items that are idle now out of the windows; count their clicks of all time."""
        for leaders in self._windows():
            leaders.drop(keys)
        at = self._stats.idle.table.find(keys)
        self._count_idle(self._stats.idle.table.data[at[at >= 0]])

    def drop(self, keys: U64) -> None:
        """Forget deleted items."""
        for leaders in self._all():
            leaders.drop(keys)

    def scan(self, now: int, step: int) -> None:
        """Go on with a scan, or begin one for the leaders that need it.

        At most ``step`` rows are counted, and not many more are passed: most have no clicks lately.
        """
        self._begin_low()
        if not self.scanning:
            return
        if self._row < len(self._stats.table.view()):
            self._scan_rows(now, step)
        elif self.ever.scanning:
            self._scan_idle(_PASSED * step)
        if self._row >= len(self._stats.table.view()) and self._idle_done():
            for leaders in self._all():
                if leaders.scanning:
                    leaders.end_scan()
            self._begin_low()

    def _begin_low(self) -> None:
        """Begin a scan for leaders that are low, unless one is under way."""
        low = [] if self.scanning else [leaders for leaders in self._all() if leaders.low]
        for leaders in low:
            leaders.begin_scan()
            self._begin()

    def _begin(self) -> None:
        """Let the scan begin at the first row, also one that is under way."""
        self._row = self._idle_row = 0

    def _idle_done(self) -> bool:
        return not self.ever.scanning or self._idle_row >= len(self._stats.idle.table.view())

    def _scan_rows(self, now: int, step: int) -> None:
        first = self._row
        part = self._stats.table.view()[first : first + _PASSED * step]
        live = part["key"] != 0
        longest = DAYS * DAY_MS if self.days.scanning else (HOURS + 1) * HOUR_MS
        recent = np.flatnonzero(live & (part["last_click"] > now - longest))
        if len(recent) > step:
            live, recent = live[: recent[step]], recent[:step]
        self._row += len(live)
        for leaders in self._windows():
            if leaders.scanning:
                leaders.count(first + recent, now)
        if self.ever.scanning:
            self._count_ever(first + np.flatnonzero(live))

    def _scan_idle(self, step: int) -> None:
        first, self._idle_row = self._idle_row, self._idle_row + step
        part = self._stats.idle.table.view()[first : self._idle_row]
        self._count_idle(part[part["key"] != 0])

    def _count_idle(self, idle: npt.NDArray[np.void]) -> None:
        clicks = idle["clicks"].astype(np.float32)
        self.ever.put(np.ascontiguousarray(idle["key"]), clicks, clicks)
