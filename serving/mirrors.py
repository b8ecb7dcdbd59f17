"""Mirrors: copies of item rows, country rows and models that every serving worker keeps. Pure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from headrace.models.learning import online, ranker
from headrace.serving.recommender import Recommender
from headrace.streams.errors import ArtefactError
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import RowTable

log = logging.getLogger(__name__)


class Mirrors:
    """Applies records of `item-features`, `item-countries` and `models` to the mirror, in topic order.

    Parameters
    ----------
    recommender
        Its ``stats`` get the rows, its ``ranker`` and ``online`` the models.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def item_features(self, records: Sequence[Any]) -> int:
        """Apply item rows; return how many were applied. A record without a value removes its row."""
        return _load(self._recommender.stats.table, records)

    def item_countries(self, records: Sequence[Any]) -> int:
        """Apply (item, country) rows; return how many were applied."""
        return _load(self._recommender.stats.countries, records)

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
