"""Duplicates, compared with a loop over the records."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from headrace.oracle.features.judge import judge
from headrace.oracle.records.frames import EVENTS

#: Records of two partitions: event id, timestamp, whether it is valid.
streams = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.integers(0, 40), st.booleans()), max_size=40
)


def some_events(rows: Sequence[tuple[int, str, int, bool]]) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "partition": [r[0] for r in rows],
            "offset": range(len(rows)),
            "event_id": [r[1] if r[3] else None for r in rows],
            "timestamp": [r[2] for r in rows],
            "verdict": ["" if r[3] else "undecodable" for r in rows],
        },
        {name: EVENTS[name] for name in ("partition", "offset", "event_id", "timestamp", "verdict")},
    )
    return frame.sample(fraction=1, shuffle=True, seed=1)


@given(streams, st.sampled_from([0, 1, 10, 100]))
def test_duplicates_are_told_by_the_stream_time_of_the_one_before(
    rows: list[tuple[int, str, int, bool]], window: int
) -> None:
    newest: dict[int, int] = {}
    seen: dict[tuple[int, str], int] = {}
    expected = []
    for partition, event_id, timestamp, valid in rows:
        s = newest[partition] = max(newest.get(partition, -1), timestamp)
        verdict = "" if valid else "undecodable"
        if valid:
            before = seen.get((partition, event_id))
            if window and before is not None and before >= s - window:
                verdict = "duplicate"
            seen[partition, event_id] = s
        expected.append(verdict)
    judged = judge(some_events(rows), window).sort("offset")
    assert judged["verdict"].to_list() == expected


def test_a_retry_counts_again_from_the_retry_before_it() -> None:
    """a . . . a . . . a   window 5: the third is 8 after the first, but 4 after the second."""
    judged = judge(some_events([(0, "a", 0, True), (0, "a", 4, True), (0, "a", 8, True)]), 5)
    assert judged["verdict"].to_list() == ["", "duplicate", "duplicate"]
