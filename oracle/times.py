"""Lengths of time in ms, and the times a message may hold."""

from __future__ import annotations

from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
#: March 1973, ms since the epoch: a message with an earlier time has it in seconds, and is refused.
MIN_TS: Final = 100_000_000_000
#: The year 2100, ms since the epoch.
MAX_TS: Final = 4_102_444_800_000
