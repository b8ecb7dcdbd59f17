"""Rows of items, and of items in countries, as they come back from their topics: a mirror for readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.models.state.items import ItemState
from headrace.streams.tables.rows import RowTable

#: A row's record key is the row's key, little-endian; records of other keys are not rows.
KEY_BYTES = 8


def load_items(stats: ItemState, records: Sequence[Any]) -> int:
    """Put the rows of records of `item-features` in place; return how many were taken.

    A record without a value says that the row has expired.
    """
    return _load(stats.table, records)


def load_countries(stats: ItemState, records: Sequence[Any]) -> int:
    """Put the rows of records of `item-countries` in place; return how many were taken."""
    return _load(stats.countries, records)


def _load(table: RowTable, records: Sequence[Any]) -> int:
    rows = [r for r in records if r.key is not None and len(r.key) == KEY_BYTES]
    expired = {r.key: at for at, r in enumerate(rows) if r.value is None}
    if expired:
        table.drop([int.from_bytes(key, "little") for key in expired])
        rows = [r for at, r in enumerate(rows) if at > expired.get(r.key, -1)]
    return table.load([r.value for r in rows])
