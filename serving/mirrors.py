"""Mirrors: copies of item rows, country rows and models that every serving worker keeps. Pure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.models.learning import online, ranker
from headrace.serving.recommender import Recommender
from headrace.streams.errors import ArtefactError
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import RowTable

log = logging.getLogger(__name__)

#: A country row whose last click is older than this counts for no request: windows of one hour are read, for
#: a time that is at most a day past.
COUNTRY_MS = DAY_MS + HOUR_MS
#: Most country rows kept (1 kB each): producers may send any text as a country.
MOST_COUNTRY_ROWS = 100_000
#: Share of them that is kept when there are more.
_KEPT_SHARE = 0.75


class CountryRows:
    """Bounds the mirror of the (item, country) rows: the rows with the newest clicks stay.

    Parameters
    ----------
    most
        Most rows kept.
    """

    def __init__(self, most: int = MOST_COUNTRY_ROWS) -> None:
        self._most = most
        self._look_at = min(most, 1000)  # number of rows at which old ones are looked for

    def bound(self, table: RowTable, now: int) -> bool:
        """Drop rows that are of no use at ``now`` (ms), and the oldest of too many; return whether any."""
        if len(table) <= self._look_at:
            return False
        rows = table.rows()
        clicked = table.data["last_click"][rows]
        keep = clicked >= now - COUNTRY_MS
        if int(keep.sum()) > self._most:
            newest = np.argsort(-clicked, kind="stable")[: int(self._most * _KEPT_SHARE)]
            keep = np.zeros(len(rows), bool)
            keep[newest] = True
        self._look_at = min(self._most, max(1000, 2 * int(keep.sum())))
        return table.drop(table.data["key"][rows[~keep]]) > 0


class Mirrors:
    """Applies records of `item-features`, `item-countries` and `models` to the mirror, in topic order.

    Parameters
    ----------
    recommender
        Its ``stats`` get the rows, its ``ranker`` and ``online`` the models.
    country_rows
        Bounds the country rows.
    """

    def __init__(self, recommender: Recommender, country_rows: CountryRows | None = None) -> None:
        self._recommender = recommender
        self._country_rows = country_rows or CountryRows()

    def item_features(self, records: Sequence[Any]) -> int:
        """Apply item rows; return how many were applied. A record without a value removes its row."""
        return _load(self._recommender.stats.table, records)

    def item_countries(self, records: Sequence[Any], now: int = 0) -> int:
        """Apply (item, country) rows; return how many were applied.

        Rows that are too old at ``now`` (ms) are dropped, when there are many.
        """
        table = self._recommender.stats.countries
        count = _load(table, records)
        if self._country_rows.bound(table, now):
            self._recommender.trending.forget()
        return count

    def models(self, records: Sequence[Any]) -> None:
        """Use the newest model of each name. A model that does not fit is refused and logged."""
        taken: set[bytes] = set()
        for record in reversed(records):
            if record.value is None or record.key in taken:
                continue
            try:
                self._use(record.key, record.value)
                taken.add(record.key)
            except ArtefactError as exc:
                log.error("a model was refused: %s", exc, extra={"action": "model_refused"})  # noqa: TRY400
            except Exception:
                log.exception("a model was refused", extra={"action": "model_refused"})

    def _use(self, key: bytes | None, value: bytes) -> None:
        if key == ranker.NAME.encode():
            self._recommender.ranker = ranker.decode(value)
            log.info("ranker %s is in use", self._recommender.ranker.version)
        elif key == online.NAME.encode():
            self._recommender.online = online.decode(value)


def _load(table: RowTable, records: Sequence[Any]) -> int:
    """Drop rows with a tombstone, then load the rows that were written after it."""
    split = row_records(records)
    table.drop(split.deleted)
    return table.load(split.rows)
