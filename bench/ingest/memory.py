"""Bytes per row: of the row itself, and of a live table with all its allocations."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.streams.tables.rows import RowTable

#: New keys come a batch at a time, as they would from a topic.
BATCH = 4000


def table_bytes(table: RowTable, count: int) -> dict[str, Any]:
    """Fill a table with ``count`` rows and return the bytes per row.

    ``with_index`` is the sum of the table's allocations (rows, spare rows, key index) per row; ``resident``
    is the growth of the process per row.
    """
    rng = np.random.default_rng(1)
    before = _resident()
    for start in range(0, count, BATCH):
        table.take(rng.integers(1, 1 << 63, min(BATCH, count - start)).astype(np.uint64))
    return {
        "rows": len(table),
        "row": table.dtype.itemsize,
        "with_index": round(table.nbytes / len(table), 1),
        "resident": round((_resident() - before) / len(table), 1),
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def row_bytes(users: int, items: int) -> dict[str, Any]:
    """Return ``table_bytes`` of user rows and of item rows."""
    return {
        "item": table_bytes(RowTable(item_state.ROW, item_state.BLANK), items),
        "user": table_bytes(RowTable(user_state.ROW, user_state.BLANK), users),
    }
