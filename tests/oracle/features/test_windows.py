"""The start of windows, and the largest value of their counts."""

from __future__ import annotations

import polars as pl
from oracle_frames import event_frame, shown_frame
from strategies import T0

from headrace.oracle.features.users import USER_METRICS, users_of
from headrace.oracle.features.windows import ITEM_CELLS, window_counts, window_starts
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS


def test_buckets_are_full_at_their_cells_largest_count() -> None:
    long = [(1, 1, "dwell", T0, 40_000, 0)] * 2
    user = users_of(event_frame(long), shown_frame([]))
    seconds = USER_METRICS.index("dwell_s")
    assert user.windows(T0)[0, :, seconds].tolist() == [65_535] * 5
    assert user.totals()[0, seconds] == 80_000
    huge = pl.DataFrame({"row": [0, 0], "metric": [0, 0], "ts": [T0, T0 - DAY_MS], "amount": [2**33, 5]})
    counts = window_counts(huge, (1, 1), T0, ITEM_CELLS)
    assert counts[0, :, 0].tolist() == [2**24 - 1] * 3 + [2**24 - 1, 2**32 + 4]


def test_window_starts() -> None:
    at = T0 // DAY_MS * DAY_MS + 90 * MINUTE_MS + 7
    day = at // DAY_MS * DAY_MS
    starts = window_starts(at).tolist()
    assert starts == [
        day + 86 * MINUTE_MS,
        day + 65 * MINUTE_MS,
        day + 35 * MINUTE_MS,
        day - 22 * HOUR_MS,
        day - 6 * DAY_MS,
    ]
