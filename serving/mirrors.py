"""Mirrors: copies of item rows, country rows and models that every serving worker keeps. Pure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.pieces import Assembly
from headrace.models.learning import leaves, online
from headrace.serving.mirrored_items import MOST_IDLE_ITEMS, MOST_ITEM_ROWS, MirroredItems
from headrace.serving.old_rows import OldRows
from headrace.serving.recommender import Recommender
from headrace.serving.vectors.swap import towers_of
from headrace.streams.errors import ArtefactError
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.tables.row_records import row_records

log = logging.getLogger(__name__)

#: A country row whose last click is older than this counts for no request: windows of one hour are read, for
#: a time that is at most a day past, and windows of a day.
COUNTRY_MS = DAY_MS + HOUR_MS
#: Most country rows kept (1 kB each): producers may send any text as a country.
MOST_COUNTRY_ROWS = 100_000


class Mirrors:
    """Applies records of `item-features`, `item-countries` and `models` to the mirror, in topic order.

    Parameters
    ----------
    recommender
        Its ``stats`` get the rows, its ``trending`` hears of them; its ``ranker``, ``online``,
        ``leaves`` and ``swap`` get the models.
    most_items
        Most item rows kept (1 kB each); see ``MirroredItems``.
    most_countries
        Most country rows kept (1 kB each). Beyond it the rows with the newest clicks stay.
    most_idle
        Most idle items kept (64 bytes each).
    """

    def __init__(
        self,
        recommender: Recommender,
        most_items: int = MOST_ITEM_ROWS,
        most_countries: int = MOST_COUNTRY_ROWS,
        most_idle: int = MOST_IDLE_ITEMS,
    ) -> None:
        self._recommender = recommender
        self._items = MirroredItems(recommender.stats, recommender.trending, most_items, most_idle)
        self._old_countries = OldRows(most_countries, "last_click")
        self._towers = Assembly()

    def item_features(self, records: Sequence[Any], now: int = 0) -> int:
        """Apply item rows; return how many were applied. A record without a value removes its row.

        Of items that are idle at ``now`` (ms) only a few values are kept; 0: of no item.
        """
        return self._items.apply(row_records(records), now)

    def item_countries(self, records: Sequence[Any], now: int = 0) -> int:
        """Apply (item, country) rows; return how many were applied.

        Rows that are too old at ``now`` (ms) are dropped, a few in each batch.
        """
        table, trending = self._recommender.stats.countries, self._recommender.trending
        split = row_records(records)
        self._drop_countries(table.find(split.deleted))
        count = table.load(split.rows)
        rows = table.find(split.keys)
        trending.countries_changed(rows[rows >= 0])
        self._drop_countries(self._old_countries.choose(table, now - COUNTRY_MS, len(split.rows)))
        if now:
            trending.catch_up(now)
        return count

    def _drop_countries(self, rows: npt.NDArray[np.int64]) -> None:
        rows = rows[rows >= 0]
        if len(rows):
            table = self._recommender.stats.countries
            self._recommender.trending.countries_dropped(rows)
            table.drop(table.data["key"][rows])

    def models(self, records: Sequence[Any], now: int = 0) -> None:
        """Use the newest model of each name. A model that does not fit is refused and logged.

        Towers come into use a little later, see ``Swap``; ``now``: time, ms. While the catalogue is in files,
        they come into use with the files that were made by them.
        """
        self._take_towers(records, now)
        rankers, taken = self._recommender.data.models.rankers, set[bytes]()
        if rankers.apply(records):
            self._recommender.ranker = rankers.live
        self._recommender.data.models.variants.apply(records)
        for record in reversed(records):
            if record.value is None or record.key in taken:
                continue
            try:
                self._use(record.key, record.value)
                taken.add(record.key)
                self._recommender.data.models.published[record.key] = record.timestamp
            except ArtefactError as exc:
                log.error("a model was refused: %s", exc, extra={"action": "model_refused"})  # noqa: TRY400
            except Exception:
                log.exception("a model was refused", extra={"action": "model_refused"})

    def _take_towers(self, records: Sequence[Any], now: int) -> None:
        for record in records:
            try:
                whole = self._towers.take(record.key, record.value)
            except ArtefactError as exc:
                log.error("a model was refused: %s", exc, extra={"action": "model_refused"})  # noqa: TRY400
                continue
            if whole is not None and self._recommender.catalog.base is None:
                self._recommender.swap.begin(towers_of(whole), now)

    def _use(self, key: bytes | None, value: bytes) -> None:
        if key == online.NAME.encode():
            self._recommender.online = online.decode(value)
        elif key == leaves.NAME.encode():
            self._recommender.leaves = leaves.decode(value)
