"""Clocks: the time of the day."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the time, ms since the epoch."""
    return time.time_ns() // 1_000_000
