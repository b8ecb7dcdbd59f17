"""What the headers of examples say is written."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from headrace.agents.partitions.written import (
    CHECKPOINT,
    EARLY,
    HEADER,
    MAX_RANGES,
    MOST_BEGUN,
    Found,
    Mark,
    Range,
    Written,
    joined,
    marks_of,
    read_mark,
)


def written_by(*marks: Mark) -> Written:
    return Written(Found(mark, False) for mark in marks)


def count(written: Written, offset: int, n: int = 3) -> int:
    """Return how many slots of an impression are written."""
    return n - len(written.missing(offset, range(n)))


def test_a_mark_survives_its_header() -> None:
    headers = marks_of(12, range(1, 3), [(3, 12)], 0)
    assert [read_mark(h) for h in headers] == [
        Found(Mark(12, 1, [(3, 12)]), False),
        Found(Mark(12, 2, [(3, 12)]), False),
    ]
    assert headers[0] == [(HEADER, b'{"offset":12,"position":1,"done":[[3,12]]}')]
    assert read_mark([("other", b"x"), *headers[1]]) == Found(Mark(12, 2, [(3, 12)]), False)
    (early,) = marks_of(12, [4], [], 1, early=True)
    assert early == [(EARLY, b'{"offset":12,"position":4,"done":[],"log":1}')]
    assert read_mark(early) == Found(Mark(12, 4, [], 1), True)


def test_what_is_no_mark_is_ignored() -> None:
    assert read_mark([]) is None
    for bad in (b"", b"{}", b"\xff", b'{"offset":"1","position":0,"done":[]}'):
        assert read_mark([(HEADER, bad)]) is None


def test_nothing_is_known_without_marks() -> None:
    assert count(Written(), 0) == 0
    assert Written().done == []


def test_what_was_begun_is_completed_slot_by_slot() -> None:
    written = written_by(Mark(12, 0, [(3, 12)]), Mark(12, 1, [(3, 12)]))
    assert [count(written, offset) for offset in (2, 3, 11, 12, 13)] == [0, 3, 3, 2, 0]
    written.complete(3, 13)
    assert count(written, 12) == 3


def test_all_marks_of_late_and_new_writers_are_true() -> None:
    """A paused worker wrote late: its mark is the last one, and says less."""
    written = written_by(Mark(20, 2, [(0, 20)]), Mark(9, 0, [(0, 9)]))
    assert written.done == [(0, 20)]
    assert [count(written, offset) for offset in (9, 19, 20)] == [3, 3, 3]


def test_a_gap_that_an_operator_left_is_filled_when_it_is_read_again() -> None:
    written = written_by(Mark(15, 2, [(0, 10), (14, 15)]))
    assert [offset for offset in range(17) if count(written, offset) == 0] == [10, 11, 12, 13, 16]
    written.complete(10, 12)
    assert written.done == [(0, 12), (14, 15)]
    written.complete(12, 16)
    assert written.done == [(0, 16)]


def test_marks_of_a_topic_that_was_made_again_replace_those_before() -> None:
    written = written_by(Mark(90, 1, [(0, 90)]))
    written.only_before(0)
    assert count(written, 50) == 0
    (new, *_) = (read_mark(h) for h in marks_of(2, range(3), joined(written.done, 0, 2), written.log))
    assert new is not None
    again = Written([Found(Mark(90, 1, [(0, 90)]), False), new])
    assert again.done == [(0, 2)]
    assert count(again, 50) == count(again, 90) == 0


def test_a_topic_that_lost_its_end_keeps_what_is_before() -> None:
    written = written_by(Mark(90, 1, [(0, 40), (50, 90)]))
    written.only_before(60)
    assert written.done == [(0, 40), (50, 60)]
    assert count(written, 90) == 0


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


def early(offset: int, position: int) -> Found:
    return Found(Mark(offset, position, []), True)


def test_slots_that_closed_before_their_list_are_written_and_no_others_of_it() -> None:
    written = Written([early(12, 1), early(9, 0), early(12, 4), Found(Mark(9, 1, [(0, 9)]), False)])
    assert written.missing(12, range(6)) == [0, 2, 3, 5]
    assert written.missing(9, range(4)) == [2, 3]
    assert written.missing(8, range(4)) == []
    written.begin(12, [0, 5])
    assert written.missing(12, [5, 3, 1]) == [3]
    written.complete(9, 13)
    assert written.missing(12, range(6)) == []


def test_slots_of_open_lists_are_listed_in_a_mark_again_and_again() -> None:
    """Whoever reads the records from there on knows all of them; a position may be beyond 64 bits."""
    rng, written, out = np.random.default_rng(0), Written(), list[Found]()
    listed, plain = list[int](), set[tuple[int, int]]()
    for _ in range(300):
        new = {
            (int(rng.integers(5)), int(rng.integers(500))) for _ in range(int(rng.integers(1, 60)))
        } - plain
        marks = [marks_of(offset, [p], written.done, 0, early=True)[0] for offset, p in new]
        if not marks:
            continue
        for mark in (written.list_begun(marks[0], len(marks)), *marks[1:]):
            found = read_mark(mark)
            assert found is not None
            listed += [len(out)] if found.mark.begun else []
            out.append(found)
        for offset, p in new:
            written.begin(offset, [p])
        plain |= new
    assert len(listed) > 2
    assert max(b - a for a, b in pairwise([0, *listed, len(out)])) <= CHECKPOINT
    for first in listed:
        again = Written(out[first:])
        assert {(o, p) for o in range(5) for p in range(500) if not again.missing(o, [p])} == plain


def test_too_many_lists_are_not_begun_and_those_that_were_passed_over_give_way() -> None:
    written = Written()
    for offset in range(MOST_BEGUN):
        assert written.may_begin(offset)
        written.begin(offset, [3])
    assert not written.may_begin(MOST_BEGUN)
    assert written.may_begin(5), "it is begun"
    written.complete(1, 11)
    assert written.may_begin(MOST_BEGUN)
    for offset in range(MOST_BEGUN, MOST_BEGUN + 10):
        written.begin(offset, [0])
    assert written.missing(0, [3]) == []
    assert written.may_begin(10**6)
    assert written.missing(0, [3]) == [3], "an operator has moved the group past it"
    assert not written.may_begin(10**6 + 1) or len(written.missing(11, [3])) == 0
