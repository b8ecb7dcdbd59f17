"""Sources: items popular now, everywhere or in a country; rising items; the most popular of all time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import ItemState
from headrace.serving.index.country_lists import CountryLists
from headrace.serving.index.item_lists import ItemLists
from headrace.serving.index.leaders import F32, U64, top
from headrace.serving.index.waiting_rows import WaitingRows

__all__ = ["Trending", "top"]

I64 = npt.NDArray[np.int64]
_EMPTY = (np.zeros(0, np.uint64), np.zeros(0, np.float32))
#: When more changed rows than this wait to be counted, they are forgotten, and all rows are scanned.
_MOST_WAITING = 65_536


class Trending:
    """Popular lists from item rows: keys and their clicks, most clicks first.

    Whoever changes the rows says which: ``changed``, ``countries_changed``, ``dropped``, ``idle`` and
    ``countries_dropped``. A refresh looks at these rows only, and at a few thousand that are held for each
    list.

    Parameters
    ----------
    stats
        Item rows and country rows.
    refresh_ms
        The lists are computed again after this time, ms.
    size
        Length of a list.
    step
        Most rows of items, and of countries, that one ``refresh`` counts.
    room
        Number of items held for each list, at least twice ``size``.

    Attributes
    ----------
    hour
        Items with the most clicks of the last hour.
    rising
        Items with the most clicks of the last five minutes.
    """

    def __init__(
        self,
        stats: ItemState,
        refresh_ms: int = 1000,
        size: int = 300,
        *,
        step: int = 1024,
        room: int = 2048,
    ) -> None:
        self._refresh_ms, self._step = refresh_ms, step
        self._at = -1
        self.hour: tuple[U64, F32] = _EMPTY
        self.rising: tuple[U64, F32] = _EMPTY
        self._today: tuple[U64, F32] | None = None
        self._days: tuple[U64, F32] | None = None
        self._ever: tuple[U64, F32] | None = None
        self._items = ItemLists(stats, size, room)
        self._countries = CountryLists(stats.countries, step=step)
        self._waiting = WaitingRows()
        if len(stats.table) or len(stats.idle):
            self.forget()

    def changed(self, rows: I64) -> None:
        """Note item rows that are new or have changed (row numbers, int64 ``(n,)``)."""
        self._waiting.add(rows)

    def countries_changed(self, rows: I64) -> None:
        """Note country rows that are new or have changed (row numbers, int64 ``(n,)``)."""
        self._countries.changed(rows)

    def countries_dropped(self, rows: I64) -> None:
        """Forget country rows; call it before they are dropped (row numbers, int64 ``(n,)``)."""
        self._countries.dropped(rows)

    def dropped(self, keys: U64) -> None:
        """Forget deleted items."""
        self._items.drop(keys)
        self._ever = self._today = self._days = None

    def idle(self, keys: U64) -> None:
        """Note items that are among the idle ones now, and have no row."""
        self._items.idle(keys)
        self._ever = self._today = self._days = None

    def forget(self) -> None:
        """Begin anew at the next ``refresh``, from all item rows."""
        self._waiting.clear()
        self._items.restart()
        self._at = -1

    @property
    def behind(self) -> bool:
        """Whether there are rows that the lists do not reflect yet."""
        return bool(len(self._waiting)) or self._items.scanning or self._countries.behind

    def refresh(self, now: int) -> None:
        """Bring the lists to ``now``, the present (ms), when it differs by ``refresh_ms`` from their time.

        Notes
        -----
        The work of one call is limited. While it is ``behind``, every call goes on. A changed row is in the
        lists after ``(changed rows before it) / step`` calls, twice as many during a scan. There is a scan
        after a ``forget``, and when ``now`` goes back by a bucket of a window: of ``2 * rows / step`` calls,
        an eighth of that where few items are active. Items may be missing from the lists until it ends.
        """
        late = self._items.scanning or self._countries.late or len(self._waiting) >= self._step
        if self._at >= 0 and abs(now - self._at) < self._refresh_ms and not late:
            return
        self._at = now
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.clear()
            self._items.restart()
        left = self._step - self._items.advance(now)
        if left > 0:
            share = max(1, left // 2) if self._items.scanning else left
            self._items.count(self._waiting.take(share), now)
            self._items.scan(now, share)
        self._countries.refresh(now)
        self.hour, self.rising = self._items.hour.top(), self._items.rising.top()
        self._ever = self._today = self._days = None

    def catch_up(self, now: int) -> None:
        """Refresh until few changed rows wait: a large batch of rows pays for its own work."""
        self.refresh(now)
        while len(self._waiting) >= self._step or self._countries.waiting >= self._step:
            self.refresh(now)

    @property
    def ever(self) -> tuple[U64, F32]:
        """The items with the most clicks of all time, and those clicks; computed when asked for."""
        if self._ever is None:
            self._ever = self._items.ever.top()
        return self._ever

    @property
    def today(self) -> tuple[U64, F32]:
        """The items with the most clicks of the last six hours, and those clicks; more than of the others."""
        if self._today is None:
            self._today = self._items.today.top()
        return self._today

    @property
    def days(self) -> tuple[U64, F32]:
        """The items with the most clicks of today and yesterday (UTC), and those clicks."""
        if self._days is None:
            self._days = self._items.days.top()
        return self._days

    def country(self, country: int) -> tuple[U64, F32]:
        """Return the items with the most clicks of the last hour from a country, and those clicks."""
        return self._countries.top(country)

    def country_today(self, country: int) -> tuple[U64, F32]:
        """Return the items with the most clicks of the last 24 hours from a country, and those clicks."""
        return self._countries.day(country)
