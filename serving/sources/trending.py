"""Sources: items popular now, everywhere or in a country; rising items; the most popular of all time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import COUNTS, WINDOWS, ItemState
from headrace.streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
_EMPTY = (np.zeros(0, np.uint64), np.zeros(0, np.float32))


def top(keys: U64, score: F32, k: int) -> tuple[U64, F32]:
    """Return the ``k`` keys of the highest positive scores, highest first, and the scores; ties by key."""
    positive = score > 0
    keys, score = keys[positive], score[positive]
    if len(keys) > k:
        good = score >= np.partition(score, -k)[-k]  # all that tie for the last place
        keys, score = keys[good], score[good]
    order = np.lexsort((keys, -score))[:k]
    return keys[order], score[order]


class Trending:
    """Popular lists from item rows: keys and their clicks, most clicks first.

    Parameters
    ----------
    stats
        Item rows and country rows.
    refresh_ms
        The lists are computed again after this time, ms of event time.
    size
        Length of a list.

    Attributes
    ----------
    hour
        Items with the most clicks of the last hour.
    rising
        Items with the most clicks of the last five minutes.
    """

    def __init__(self, stats: ItemState, refresh_ms: int = 1000, size: int = 300) -> None:
        self._stats = stats
        self._refresh_ms = refresh_ms
        self._size = size
        self._at = -1
        self.hour: tuple[U64, F32] = _EMPTY
        self.rising: tuple[U64, F32] = _EMPTY
        self._ever: tuple[U64, F32] | None = _EMPTY
        self._by_country: dict[int, tuple[U64, F32]] = {}
        self._country_rows: dict[int, npt.NDArray[np.int64]] | None = {}

    def refresh(self, now: int) -> None:
        """Compute the lists again when their time differs from ``now`` (ms) by ``refresh_ms`` or more."""
        if self._at >= 0 and abs(now - self._at) < self._refresh_ms:
            return
        self._at = now
        view = self._stats.table.view()
        # Rows are large: only those with a click in the last hour are read, and only the fields needed.
        rows = np.flatnonzero((view["last_click"] > now - HOUR_MS) & (view["key"] != 0))
        keys = view["key"][rows]
        self.hour = top(keys, WINDOWS.read_one(view, now, "1h", "click", rows=rows), self._size)
        self.rising = top(keys, WINDOWS.read_one(view, now, "5m", "click", rows=rows), self._size)
        self._ever = None
        self._by_country, self._country_rows = {}, None

    def forget(self) -> None:
        """Compute the lists again at the next ``refresh``: rows were dropped, others may take their place."""
        self._at = -1

    @property
    def ever(self) -> tuple[U64, F32]:
        """The items with the most clicks of all time, and those clicks; computed when asked for."""
        if self._ever is None:
            view = self._stats.table.view()
            live = view["key"] != 0
            clicks = COUNTS.totals(view, "click")[live].astype(np.float32)
            self._ever = top(view["key"][live], clicks, self._size)
        return self._ever

    def country(self, country: int) -> tuple[U64, F32]:
        """Return the items with the most clicks of the last hour from a country, and those clicks."""
        if country not in self._by_country:
            if self._country_rows is None:
                self._country_rows = self._recent_by_country()
            rows = self._country_rows.get(country)
            if rows is None:
                return _EMPTY  # not cached: a request may name any text as its country
            data = self._stats.countries.data
            clicks = WINDOWS.read_one(data, self._at, "1h", "click", rows=rows)
            self._by_country[country] = top(data["item"][rows], clicks, 100)
        return self._by_country[country]

    def _recent_by_country(self) -> dict[int, npt.NDArray[np.int64]]:
        """Return the rows with a click in the last hour, by country, from one pass over the table."""
        view = self._stats.countries.view()
        rows = np.flatnonzero((view["last_click"] > self._at - HOUR_MS) & (view["key"] != 0))
        country = view["country"][rows]
        order = np.argsort(country, kind="stable")
        found, starts = np.unique(country[order], return_index=True)
        return dict(zip(found.tolist(), np.split(rows[order], starts[1:]), strict=False))
