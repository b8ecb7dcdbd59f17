"""What is popular now, everywhere and by country: recomputed at most every ``refresh_ms`` of event time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.item_stats import COUNTRY_WINDOWS, WINDOWS, ItemStats

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
        data = table.data[: int(rows.max()) + 1] if len(rows) else table.data[:0]
        live = np.zeros(len(data), bool)
        live[rows] = True
        keys = data["key"]
        hour = np.where(live, WINDOWS.read_one(data, now, "1h", "click"), 0)
        rising = np.where(live, WINDOWS.read_one(data, now, "5m", "click"), 0)
        self.hour = top(keys, hour, self._size)
        self.rising = top(keys, rising, self._size)
        self.ever = top(keys, np.where(live, data["totals"][:, 1], 0).astype(np.float32), self._size)
        self._by_country = self._countries(now)

    def _countries(self, now: int) -> dict[int, tuple[U64, F32]]:
        table = self._stats.countries
        if not len(table):
            return {}
        data = table.data[table.rows()]
        clicks = COUNTRY_WINDOWS.read_one(data, now, "1h", "click")
        data, clicks = data[clicks > 0], clicks[clicks > 0]
        out = {}
        for country in np.unique(data["country"]):
            here = data["country"] == country
            out[int(country)] = top(data["item"][here], clicks[here], 100)
        return out

    def country(self, country: int) -> tuple[U64, F32]:
        """Return the country's popular items of the last hour and their clicks."""
        return self._by_country.get(country, _EMPTY)

    def popular(self) -> tuple[U64, F32]:
        """Return the last hour's list, and behind it what was popular ever, as far as there is room.

        The scores are clicks; those of the second part are all-time, so they do not continue the first.
        """
        (keys, score), (older, older_score) = self.hour, self.ever
        new = ~np.isin(older, keys)
        keys, score = np.concatenate([keys, older[new]]), np.concatenate([score, older_score[new]])
        return keys[: self._size], score[: self._size]
