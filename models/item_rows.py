"""Keys and loading of `item-features`: one topic, three kinds of rows; the key's first byte tells which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.item_stats import ItemStats

#: An item's row, the row of an (item, country), a source's high-water mark.
ITEM, COUNTRY, MARK = b"i", b"c", b"m"


def row_key(kind: bytes, key: int) -> bytes:
    """Return the record key of a row."""
    return kind + key.to_bytes(8, "little")


def load_rows(stats: ItemStats, records: Sequence[Any]) -> int:
    """Put the rows of a batch of records in place; return how many were taken."""
    items, countries = [], []
    for record in records:
        if record.value is not None:
            kind = record.key[:1]
            if kind == ITEM:
                items.append(record.value)
            elif kind == COUNTRY:
                countries.append(record.value)
    return stats.table.load(items) + stats.countries.load(countries)
