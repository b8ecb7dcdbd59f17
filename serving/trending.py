"""What is popular now, everywhere and by country: recomputed at most every ``refresh_ms`` of event time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.item_stats import COUNTRY_WINDOWS, WINDOWS, ItemStats
from streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
_EMPTY = (np.zeros(0, np.uint64), np.zeros(0, np.float32))
_NO_ROWS = np.zeros(0, np.int64)


def top(keys: U64, score: F32, k: int) -> tuple[U64, F32]:
    """Return the ``k`` keys of the highest positive scores, highest first; ties in order of the key."""
    positive = score > 0
    keys, score = keys[positive], score[positive]
    if len(keys) > k:
        good = score >= np.partition(score, -k)[-k]  # all that tie for the last place
        keys, score = keys[good], score[good]
    order = np.lexsort((keys, -score))[:k]
    return keys[order], score[order]


class Trending:
    """Popular lists over ``stats``, cached."""

    def __init__(self, stats: ItemStats, refresh_ms: int = 1000, size: int = 300) -> None:
        self._stats = stats
        self._refresh_ms = refresh_ms
        self._size = size
        self._at = -1
        self.hour: tuple[U64, F32] = _EMPTY
        self.rising: tuple[U64, F32] = _EMPTY
        self._ever: tuple[U64, F32] | None = _EMPTY
        self._by_country: dict[int, tuple[U64, F32]] = {}
        self._country_rows: dict[int, npt.NDArray[np.int64]] = {}
        self._sorted = 0

    def refresh(self, now: int) -> None:
        """Recompute when the lists are of another time than ``now``, by ``refresh_ms`` or more."""
        if self._at >= 0 and abs(now - self._at) < self._refresh_ms:
            return
        self._at = now
        view = self._stats.table.view()
        # Rows are big: only those with a click in the last hour are read, and of them only what is needed.
        rows = np.flatnonzero((view["last_click"] > now - HOUR_MS) & (view["key"] != 0))
        keys = view["key"][rows]
        self.hour = top(keys, WINDOWS.read_one(view, now, "1h", "click", rows=rows), self._size)
        self.rising = top(keys, WINDOWS.read_one(view, now, "5m", "click", rows=rows), self._size)
        self._ever = None
        self._by_country = {}

    @property
    def ever(self) -> tuple[U64, F32]:
        """Return the items of the most clicks of all time and these; made when asked for."""
        if self._ever is None:
            view = self._stats.table.view()
            live = view["key"] != 0
            clicks = view["totals"][:, 1][live].astype(np.float32)
            self._ever = top(view["key"][live], clicks, self._size)
        return self._ever

    def country(self, country: int) -> tuple[U64, F32]:
        """Return the country's popular items of the last hour and their clicks."""
        if country not in self._by_country:
            rows = self._rows_of(country)
            if not len(rows):
                return _EMPTY  # and not remembered: a request may name any text
            data = self._stats.countries.data
            clicks = COUNTRY_WINDOWS.read_one(data, self._at, "1h", "click", rows=rows)
            self._by_country[country] = top(data["item"][rows], clicks, 100)
        return self._by_country[country]

    def _rows_of(self, country: int) -> npt.NDArray[np.int64]:
        """Return the rows of a country. That table only ever grows: its new rows are sorted in."""
        data, n = self._stats.countries.data, len(self._stats.countries)
        if n > self._sorted:
            new = data["country"][self._sorted : n]
            order = np.argsort(new, kind="stable")
            found, starts = np.unique(new[order], return_index=True)
            for key, rows in zip(found.tolist(), np.split(order + self._sorted, starts[1:]), strict=True):
                before = self._country_rows.get(key, _NO_ROWS)
                self._country_rows[key] = np.concatenate([before, rows])
            self._sorted = n
        return self._country_rows.get(country, _NO_ROWS)
