"""Duplicates, compared with a loop over the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from headrace.oracle.features.judge import judge, remembered
from headrace.oracle.records.frames import EVENTS
from headrace.streams.messages.ids import hash64

#: Records of two partitions: event id, timestamp, whether it is valid, whether it moves the stream time (a
#: valid one does).
streams = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from("abc"),
        st.integers(-5, 40),
        st.booleans(),
        st.sampled_from([1, 1, 0]),
    ),
    max_size=40,
)


def some_events(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "partition": [r[0] for r in rows],
            "offset": range(len(rows)),
            "event_id": [r[1] if r[3] else None for r in rows],
            "timestamp": [r[2] for r in rows],
            "verdict": ["" if r[3] else "undecodable" for r in rows],
            "moves_time": [bool(r[3] or r[4]) for r in rows],
        },
        {
            name: EVENTS[name]
            for name in ("partition", "offset", "event_id", "timestamp", "verdict", "moves_time")
        },
    )
    return frame.sample(fraction=1, shuffle=True, seed=1)


def by_loop(rows: Sequence[tuple[Any, ...]], window: int) -> tuple[list[str], list[dict[str, int]]]:
    """Return the verdicts, and what the windows of the two partitions hold at the end."""
    newest, seen = [-1, -1], [dict[str, int](), dict[str, int]()]
    verdicts = []
    for partition, event_id, timestamp, valid, moves in rows:
        if valid or moves:
            newest[partition] = max(newest[partition], timestamp, 0)
        verdict = "" if valid else "undecodable"
        if valid:
            before = seen[partition].get(event_id)
            if window and before is not None and before >= newest[partition] - window:
                verdict = "duplicate"
            seen[partition][event_id] = newest[partition]
        verdicts.append(verdict)
    held = [
        {e: at for e, at in ids.items() if window and at >= end - window}
        for ids, end in zip(seen, newest, strict=True)
    ]
    return verdicts, held


@given(streams, st.sampled_from([0, 1, 10, 100]))
def test_duplicates_are_told_by_the_stream_time_of_the_one_before(rows: list[Any], window: int) -> None:
    judged = judge(some_events(rows), window).sort("offset")
    verdicts, held = by_loop(rows, window)
    assert judged["verdict"].to_list() == verdicts
    for partition in (0, 1):
        mine = judged.filter(pl.col("partition") == partition)
        assert remembered(mine, window) == {hash64(e): at for e, at in held[partition].items()}


def test_a_retry_counts_again_from_the_retry_before_it() -> None:
    """a . . . a . . . a   window 5: the third is 8 after the first, but 4 after the second."""
    judged = judge(some_events([(0, "a", 0, 1, 1), (0, "a", 4, 1, 1), (0, "a", 8, 1, 1)]), 5)
    assert judged["verdict"].to_list() == ["", "duplicate", "duplicate"]


def test_a_record_that_moves_no_time_makes_nothing_a_duplicate() -> None:
    """The second one is dated far ahead and refused for it: the retry after it is still a retry."""
    told = [(0, "a", 0, 1, 1), (0, "b", 1000, 0, 0), (0, "a", 4, 1, 1)]
    assert judge(some_events(told), 5)["verdict"].to_list() == ["", "undecodable", "duplicate"]
    told[1] = (0, "b", 1000, 0, 1)
    assert judge(some_events(told), 5)["verdict"].to_list() == ["", "undecodable", ""]
