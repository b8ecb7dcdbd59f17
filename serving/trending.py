"""What is popular now, everywhere and by country: recomputed at most every ``refresh_ms`` of event time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.item_stats import COUNTRY_WINDOWS, WINDOWS, ItemStats
from streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
_EMPTY = (np.zeros(0, np.uint64), np.zeros(0, np.float32))


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
        self.ever: tuple[U64, F32] = _EMPTY
        self._by_country: dict[int, tuple[U64, F32]] = {}

    def refresh(self, now: int) -> None:
        """Recompute when the lists are of another time than ``now``, by ``refresh_ms`` or more."""
        if self._at >= 0 and abs(now - self._at) < self._refresh_ms:
            return
        self._at = now
        table = self._stats.table
        rows = table.rows()
        self.ever = top(table.data["key"][rows], table.data["totals"][rows, 1].astype(np.float32), self._size)
        # Whole rows are big: only those with a click in the last hour are read.
        data = table.data[rows[table.data["last_click"][rows] > now - HOUR_MS]]
        self.hour = top(data["key"], WINDOWS.read_one(data, now, "1h", "click"), self._size)
        self.rising = top(data["key"], WINDOWS.read_one(data, now, "5m", "click"), self._size)
        self._by_country = {}

    def country(self, country: int) -> tuple[U64, F32]:
        """Return the country's popular items of the last hour and their clicks."""
        if country not in self._by_country:
            table = self._stats.countries
            rows = table.rows()
            data = table.data[rows[table.data["country"][rows] == country]]
            clicks = COUNTRY_WINDOWS.read_one(data, self._at, "1h", "click")
            self._by_country[country] = top(data["item"], clicks, 100)
        return self._by_country[country]
