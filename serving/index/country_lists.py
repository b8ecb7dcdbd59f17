"""Items popular in a country, in the last hour and day, from country rows, without a pass over all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import WINDOWS, country_key
from headrace.serving.index.leaders import F32, U64, top
from headrace.serving.index.waiting_rows import WaitingRows
from headrace.serving.index.window_leaders import WindowLeaders
from headrace.streams.tables.rows import RowTable
from headrace.streams.windows import TIERS

I64 = npt.NDArray[np.int64]

_NOTHING = (np.zeros(0, np.uint64), np.zeros(0, np.float32))
_BUCKET_MS = next(tier.bucket_ms for tier in TIERS if tier.name == "1h")
#: A country with more rows than this has leaders; of the others all rows are read when a list is asked for.
MANY = 512
_MOST_WAITING = 65_536
#: A list of the last day is held for so long, ms: it is read from many rows, and changes slowly.
DAY_HOLD_MS = 10_000


class _Leaders(WindowLeaders):
    """The leaders of one country in a window, and the rows that a scan has still to come to."""

    def __init__(self, table: RowTable, country: int, window: str, size: int, room: int) -> None:
        def find(items: U64) -> I64:
            return table.find(country_key(items, np.full(len(items), country, np.uint64)))

        super().__init__(table, window, size, key="item", find=find, room=room)
        self.country, self.rows_of = country, find
        self.left: I64 = np.zeros(0, np.int64)


class CountryLists:
    """The items with the most clicks of the last hour, and of the last day, by country.

    Parameters
    ----------
    table
        Country rows.
    size
        Length of a list of the last hour.
    step
        Most rows of large countries that one ``refresh`` looks at.
    many
        See ``MANY``.
    day_size
        Length of a list of the last day.
    """

    def __init__(
        self, table: RowTable, size: int = 100, *, step: int = 1024, many: int = MANY, day_size: int = 200
    ) -> None:
        self._table, self._size, self._step, self._many = table, size, step, many
        self._day_size = day_size
        self._at = 0
        self._country_of: U64 = np.zeros(0, np.uint64)  # by row; 0: in no country
        self._rows: dict[int, set[int]] = {}
        self._large: dict[int, _Leaders] = {}
        self._lists: dict[int, tuple[U64, F32]] = {}
        self._large_days: dict[int, _Leaders] = {}  # of the large countries that were asked for
        self._days: dict[int, tuple[int, U64, F32]] = {}  # when it was made, ms, and the list
        self._waiting = WaitingRows()
        if len(table):
            self.changed(table.rows())

    @property
    def behind(self) -> bool:
        """Whether there are rows that the lists do not reflect yet."""
        return len(self._waiting) > 0 or self._scanning

    @property
    def waiting(self) -> int:
        """Number of changed rows that were not looked at yet."""
        return len(self._waiting)

    @property
    def late(self) -> bool:
        """Whether there is more to do than one ``refresh`` can do."""
        return len(self._waiting) >= self._step or self._scanning

    @property
    def _scanning(self) -> bool:
        return any(leaders.scanning for leaders in self._every())

    def _every(self) -> list[_Leaders]:
        return [*self._large.values(), *self._large_days.values()]

    def _of(self, country: int) -> list[_Leaders]:
        """Return the leaders of a country: none, of an hour, of a day, or both."""
        return [by[country] for by in (self._large, self._large_days) if country in by]

    def changed(self, rows: I64) -> None:
        """Note rows that are new or have changed, int64 ``(n,)``."""
        country = self._table.data["country"][rows]
        if len(self._country_of) < len(self._table.data):
            self._country_of = np.append(
                self._country_of, np.zeros(len(self._table.data) - len(self._country_of), np.uint64)
            )
        moved = self._country_of[rows] != country
        if moved.any():
            self._leave(rows[moved])
            self._country_of[rows[moved]] = country[moved]
            for row, of in zip(rows[moved].tolist(), country[moved].tolist(), strict=True):
                self._rows.setdefault(of, set()).add(row)
        self._waiting.add(rows)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.add(self._waiting.take(_MOST_WAITING))  # each once

    def dropped(self, rows: I64) -> None:
        """Forget rows; call it before they are dropped from the table."""
        rows = rows[rows < len(self._country_of)]
        for row, country in zip(rows.tolist(), self._country_of[rows].tolist(), strict=True):
            for leaders in self._of(country):
                leaders.drop(self._table.data["item"][[row]])
        self._leave(rows)
        self._country_of[rows] = 0

    def _leave(self, rows: I64) -> None:
        for row, country in zip(rows.tolist(), self._country_of[rows].tolist(), strict=True):
            there = self._rows.get(country)
            if there is not None:
                there.discard(row)
                self._lists.pop(country, None)
                if not there:
                    del self._rows[country]
                    for by in (self._large, self._large_days, self._days):
                        by.pop(country, None)

    def refresh(self, now: int) -> None:
        """Bring the lists to ``now`` (ms), as far as the limit of one call allows."""
        moved = now // _BUCKET_MS - self._at // _BUCKET_MS
        self._at = now
        if moved:
            self._lists.clear()
        if moved < 0:  # else leaders are brought forward when they are asked for
            self._days.clear()
            for leaders in self._every():
                self._advance(leaders)
        rows = self._waiting.take(self._step)
        self._count(rows)
        left = self._step - len(rows)
        for leaders in self._every():
            if left > 0:
                left -= self._scan(leaders, left)

    def _advance(self, leaders: _Leaders) -> None:
        if leaders.goes_back(self._at):
            leaders.left = leaders.left[:0]  # the scan begins anew
        leaders.advance(self._at)
        if leaders.low:
            leaders.begin_scan()

    def _count(self, rows: I64) -> None:
        of = self._country_of[rows]
        rows, of = rows[of != 0], of[of != 0]
        if not len(rows):
            return
        order = np.argsort(of, kind="stable")
        starts = np.flatnonzero(np.diff(of[order], prepend=np.uint64(0)))
        countries = of[order[starts]]
        for country, part in zip(countries.tolist(), np.split(rows[order], starts[1:]), strict=True):
            self._lists.pop(country, None)
            for leaders in self._of(country):
                self._advance(leaders)
                leaders.count(part, self._at)
            if country not in self._large and len(self._rows[country]) > self._many:
                self._large[country] = self._begun(country, "1h", self._size, self._many)

    def _begun(self, country: int, window: str, size: int, room: int) -> _Leaders:
        """Return new leaders, with a scan that has begun."""
        leaders = _Leaders(self._table, country, window, size, room)
        self._advance(leaders)
        leaders.restart()
        return leaders

    def _scan(self, leaders: _Leaders, most: int) -> int:
        """Go on with the scan of a large country; return how many rows were looked at."""
        if not leaders.scanning:
            return 0
        self._advance(leaders)
        country = leaders.country
        if not len(leaders.left):
            there = self._rows[country]
            leaders.left = np.fromiter(there, np.int64, len(there))
        rows, leaders.left = leaders.left[:most], leaders.left[most:]
        leaders.count(rows[self._country_of[rows] == country], self._at)
        if not len(leaders.left):
            leaders.end_scan()
            self._advance(leaders)
            self._days.pop(country, None)
        self._lists.pop(country, None)
        return len(rows)

    def top(self, country: int) -> tuple[U64, F32]:
        """Return the items with the most clicks of the last hour from a country, and those clicks."""
        found = self._lists.get(country)
        if found is None:
            there = self._rows.get(country)
            if there is None:
                return _NOTHING  # not cached: a request may name any text as its country
            leaders = self._large.get(country)
            if leaders is None:
                found = self._read(there)
            else:
                self._advance(leaders)
                found = leaders.top()
            self._lists[country] = found
        return found

    def _read(self, there: set[int]) -> tuple[U64, F32]:
        rows = np.fromiter(there, np.int64, len(there))
        data = self._table.data
        clicks = WINDOWS.read_one(data, self._at, "1h", "click", rows=rows)
        return top(data["item"][rows], clicks, self._size)

    def day(self, country: int) -> tuple[U64, F32]:
        """Return the items with the most clicks of the last 24 hours from a country, and those clicks.

        Ties: the newest last click first, then by key. A list is up to ``DAY_HOLD_MS`` old.
        """
        at, keys, clicks = self._days.get(country, (-1, *_NOTHING))
        if at >= 0 and abs(self._at - at) < DAY_HOLD_MS:
            return keys, clicks
        there = self._rows.get(country)
        if there is None:
            return _NOTHING
        rows, clicks = self._of_day(country, there)
        newest, keys = self._table.data["last_click"][rows], self._table.data["item"][rows]
        order = np.lexsort((keys, -newest, -clicks))[: self._day_size]
        order = order[clicks[order] > 0]
        keys, clicks = keys[order], clicks[order]
        self._days[country] = self._at, keys, clicks
        return keys, clicks

    def _of_day(self, country: int, there: set[int]) -> tuple[I64, F32]:
        """Return the rows to choose from, and their clicks of the last day: all of a small country."""
        if country not in self._large_days and len(there) > self._many:
            room = max(self._many, 4 * self._day_size)
            self._large_days[country] = self._begun(country, "24h", self._day_size, room)
        if country not in self._large_days:
            rows = np.fromiter(there, np.int64, len(there))
            return rows, WINDOWS.read_one(self._table.data, self._at, "24h", "click", rows=rows)
        leaders = self._large_days[country]
        self._advance(leaders)
        keys, clicks = leaders.top()
        return leaders.rows_of(keys), clicks
