"""The time from which raw topics are complete when their first records were deleted."""

from __future__ import annotations

import polars as pl

from headrace.console.verification.raw_topics import covered_from
from headrace.oracle.times import MAX_TS


def test_what_is_covered_when_a_broker_deleted_the_beginning() -> None:
    frame = pl.DataFrame(
        [(0, 10, 100, ""), (0, 11, 50, ""), (1, 0, 900, "")],
        {"partition": pl.Int32, "offset": pl.Int64, "timestamp": pl.Int64, "verdict": pl.String},
        orient="row",
    )
    assert covered_from(frame, set(), 7) == 0
    assert covered_from(frame, {0}, 7) == 107
    assert covered_from(frame, {0, 1}, 7) == 907
    assert covered_from(frame, {0, 2}, 7) == MAX_TS, "nothing of partition 2 is left"
