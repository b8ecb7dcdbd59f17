"""Rows with windows for tests: by the live writer, and by a plain writer that must give equal rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.models.state.counter import Counter
from headrace.models.state.counts import HALF_LIFE_MS, STAND_MS
from headrace.streams.windows import Windows

Array = np.ndarray[Any, Any]


def fields(windows: Windows) -> list[tuple[Any, ...]]:
    """Return the fields of a row that the writer needs: windows, and the counts it keeps besides."""
    n = len(windows.metrics)
    return [("updated", "<i8"), ("decayed", "<f8", (n,)), ("totals", "<u4", (n,)), *windows.fields()]


def add(windows: Windows, data: Array, rows: Array, ts: Array, metric: Array, amount: Array) -> None:
    """Add to rows as the state of users and items does."""
    tiers = [(tier.name, tier.bucket_ms, tier.ring) for tier in windows.tiers]
    counter = Counter(data.dtype, len(windows.metrics), tiers, HALF_LIFE_MS, STAND_MS)
    counter.add(data, rows, ts, metric, amount)


def add_plainly(windows: Windows, data: Array, rows: Array, ts: Array, metric: Array, amount: Array) -> None:
    """Add to the windows alone, event by event and tier by tier."""
    for event in zip(rows.tolist(), ts.tolist(), metric.tolist(), amount.tolist(), strict=True):
        for tier in windows.tiers:
            _add_to_tier(data, tier.name, tier.bucket_ms, tier.ring, *event)


def _add_to_tier(
    data: Array, name: str, bucket_ms: int, ring: int, row: int, ts: int, metric: int, amount: int
) -> None:
    lows, heads = data[f"w_{name}"], data[f"h_{name}"]
    highs = data[f"x_{name}"] if f"x_{name}" in (data.dtype.names or ()) else None
    bucket, head = ts // bucket_ms, int(heads[row])
    if bucket <= head - ring:
        return
    for passed in range(max(head, bucket - ring) + 1, bucket + 1):
        lows[row, passed % ring] = 0
        if highs is not None:
            highs[row, passed % ring] = 0
    heads[row] = max(head, bucket)
    cell = row, bucket % ring, metric
    high, bits = (0, 16) if highs is None else (int(highs[cell]), 16 + 8 * highs.itemsize)
    total = min((high << 16) + int(lows[cell]) + amount, 2**bits - 1)
    lows[cell] = total & 0xFFFF
    if highs is not None:
        highs[cell] = total >> 16
