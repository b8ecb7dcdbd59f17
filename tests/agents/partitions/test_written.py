"""What the headers of examples say is written."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from headrace.agents.partitions.written import (
    HEADER,
    MAX_RANGES,
    Mark,
    Range,
    Written,
    joined,
    marks_of,
    read_mark,
)


def test_a_mark_survives_its_header() -> None:
    headers = marks_of(12, range(1, 3), [(3, 12)], 0)
    assert [read_mark(h) for h in headers] == [Mark(12, 1, [(3, 12)]), Mark(12, 2, [(3, 12)])]
    assert headers[0] == [(HEADER, b'{"offset":12,"position":1,"done":[[3,12]]}')]
    assert read_mark([("other", b"x"), *headers[1]]) == Mark(12, 2, [(3, 12)])


def test_what_is_no_mark_is_ignored() -> None:
    assert read_mark([]) is None
    for bad in (b"", b"{}", b"\xff", b'{"offset":"1","position":0,"done":[]}'):
        assert read_mark([(HEADER, bad)]) is None


def test_nothing_is_known_without_marks() -> None:
    assert Written().slots(0, 3) == 0
    assert Written().done == []


def test_what_was_begun_is_completed_slot_by_slot() -> None:
    written = Written([Mark(12, 0, [(3, 12)]), Mark(12, 1, [(3, 12)])])
    assert [written.slots(offset, 3) for offset in (2, 3, 11, 12, 13)] == [0, 3, 3, 2, 0]
    written.complete(3, 13)
    assert written.slots(12, 3) == 3


def test_all_marks_of_late_and_new_writers_are_true() -> None:
    """A paused worker wrote late: its mark is the last one, and says less."""
    written = Written([Mark(20, 2, [(0, 20)]), Mark(9, 0, [(0, 9)])])
    assert written.done == [(0, 20)]
    assert [written.slots(offset, 3) for offset in (9, 19, 20)] == [3, 3, 3]


def test_a_gap_that_an_operator_left_is_filled_when_it_is_read_again() -> None:
    written = Written([Mark(15, 2, [(0, 10), (14, 15)])])
    assert [offset for offset in range(17) if written.slots(offset, 3) == 0] == [10, 11, 12, 13, 16]
    written.complete(10, 12)
    assert written.done == [(0, 12), (14, 15)]
    written.complete(12, 16)
    assert written.done == [(0, 16)]


def test_marks_of_a_topic_that_was_made_again_replace_those_before() -> None:
    written = Written([Mark(90, 1, [(0, 90)])])
    written.only_before(0)
    assert written.slots(50, 3) == 0
    (new, *_) = (read_mark(h) for h in marks_of(2, range(3), joined(written.done, 0, 2), written.log))
    assert new is not None
    again = Written([Mark(90, 1, [(0, 90)]), new])
    assert again.done == [(0, 2)]
    assert again.slots(50, 3) == again.slots(90, 3) == 0


def test_a_topic_that_lost_its_end_keeps_what_is_before() -> None:
    written = Written([Mark(90, 1, [(0, 40), (50, 90)])])
    written.only_before(60)
    assert written.done == [(0, 40), (50, 60)]
    assert written.slots(90, 3) == 0


def test_ranges_are_joined_as_sets_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        ranges, plain = list[Range](), set[int]()
        for _ in range(int(rng.integers(1, 12))):
            first, end = sorted(rng.integers(0, 40, 2).tolist())
            ranges = joined(ranges, first, end)
            plain |= set(range(first, end))
        assert {i for a, b in ranges for i in range(a, b)} == plain
        assert all(b < c for (_, b), (c, _) in pairwise(ranges))


def test_a_mark_stays_small() -> None:
    ranges = list[Range]()
    for i in range(1000):
        ranges = joined(ranges, 2 * i, 2 * i + 1)
    assert len(ranges) == MAX_RANGES
    assert ranges[-1] == (1998, 1999)
