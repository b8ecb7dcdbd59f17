"""Growths of the partitions: the log of each goes on from that of its parent."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from headrace.oracle.features.lines import inherited, numbered, own, settled
from headrace.streams.topics.growths import GROWN, Growth, Growths, Segment
from headrace.streams.transport.places import Place

TWICE = Growths((Growth(2, 4, {"events": [10, 20]}), Growth(4, 8, {"events": [15, 25, 7, 0]})))


def test_the_log_of_a_partition_begins_with_those_of_its_parents() -> None:
    assert TWICE.segments("events", 0, 8) == [
        Segment(0, 2, 0, 10), Segment(0, 4, 10, 15), Segment(0, 8, 15, None)
    ]  # fmt: skip
    assert TWICE.segments("events", 3, 8) == [
        Segment(1, 2, 0, 20), Segment(3, 4, 0, 0), Segment(3, 8, 0, None)
    ]  # fmt: skip
    assert TWICE.segments("events", 6, 8) == [
        Segment(0, 2, 0, 10), Segment(2, 4, 0, 7), Segment(6, 8, 0, None)
    ]  # fmt: skip
    assert Growths().segments("events", 3, 4) == [Segment(3, 4, 0, None)]
    assert [sorted(TWICE.parents(n)) for n in (0, 3, 6)] == [[0], [1, 3], [0, 2, 6]]


def test_a_log_that_is_not_the_one_that_was_cut_is_nobodys_parent() -> None:
    # It was made again between the growths, and partition 2 lost its last records after the second.
    now = TWICE.in_logs([{"events": [0, 0]}, {"events": [15, 25, 3, 0]}])
    assert now.segments("events", 6, 8) == [Segment(0, 2, 0, 0), Segment(2, 4, 0, 3), Segment(6, 8, 0, None)]
    assert now.segments("events", 4, 8) == [Segment(0, 2, 0, 0), Segment(0, 4, 0, 15), Segment(4, 8, 0, None)]
    assert now.segments("events", 2, 8) == [Segment(0, 2, 0, 0), Segment(2, 4, 0, 3), Segment(2, 8, 3, None)]
    assert [now.shift("events", n) for n in range(8)] == [TWICE.shift("events", n) for n in range(8)]
    assert now.counts("events") == [(2, [0, 0]), (4, [15, 25, 3, 0])]
    assert TWICE.whole("events", 6)
    assert not now.whole("events", 0), "the first growth cut another log"
    once = TWICE.in_logs([{}, {"events": [15, 25, 3, 0]}])
    assert [n for n in range(8) if not once.whole("events", n)] == [2, 6]


def test_a_growth_says_which_log_was_cut() -> None:
    place = Place(10, 3, at=9, timestamp=5, crc=7, epoch=1, topic_id=bytes(range(16)))
    growth = Growth(1, 2, {"events": [10], "items": [4]}, {"events": [place.encode()]})
    (again,) = Growths.of({GROWN: Growths((growth,)).encode()}).all
    assert (again.place("events", 0), again.place("items", 0)) == (place, Place(4))


def test_numbers_go_on_after_those_of_the_parents() -> None:
    shifts = [TWICE.shift("events", n) for n in range(8)]
    assert shifts == [0, 0, 10, 20, 15, 25, 17, 20]


def test_growths_are_kept_in_a_meta_record() -> None:
    assert Growths.of({GROWN: TWICE.encode()}) == TWICE
    assert Growths.of({}) == Growths()
    assert Growths((TWICE.all[0],)).then(TWICE.all[1]) == TWICE
    assert TWICE.counts("events") == [(2, [10, 20]), (4, [15, 25, 7, 0])]


# --- the oracle's lines agree with it, and with the simplest account of what happens to a record


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[tuple[int, int, str]], Growths]:
    """Records (partition, offset, user) of an installation that grows twice, each where it then belongs."""
    homes = {user: murmur2(user.encode()) & 0x7FFFFFFF for user in ("a", "b", "c", "d", "e", "f", "g")}
    ends, out, growths, count = [0] * 8, list[tuple[int, int, str]](), list[Growth](), 2
    for grows in (True, True, False):
        for user in draw(st.lists(st.sampled_from(sorted(homes)), max_size=12)):
            partition = homes[user] % count
            out.append((partition, ends[partition], user))
            ends[partition] += 1
        if grows:
            growths.append(Growth(count, count * 2, {"events": ends[:count]}))
            count *= 2
    return out, Growths(tuple(growths))


def frame(records: Sequence[tuple[int, int, str]]) -> pl.DataFrame:
    schema = {"partition": pl.Int32, "offset": pl.Int64, "user_id": pl.String}
    return pl.DataFrame(list(records), schema, orient="row")


@given(worlds())
def test_all_records_of_a_user_are_in_one_line_in_the_order_they_were_written(world) -> None:
    records, growths = world
    now = settled(frame(records), growths.cuts("events"))
    for user in {user for _, _, user in records}:
        mine = now.filter(pl.col("user_id") == user)
        home = (murmur2(user.encode()) & 0x7FFFFFFF) % 8
        assert set(mine["partition"]) == {home}
        before = [(p, offset) for p, offset, name in records if name == user]
        shift = {p: growths.shift("events", p) for p in range(8)}
        assert mine["offset"].to_list() == [offset + shift[p] for p, offset in before]
        assert mine["offset"].to_list() == sorted(set(mine["offset"]))


@given(worlds(), st.data())
def test_the_line_of_a_partition_has_the_records_of_its_segments(world, data) -> None:
    records, growths = world
    # Some logs lost their last records after both growths; others were made again after the first one.
    ends = [data.draw(st.integers(0, 30)) for _ in range(4)]
    again = [data.draw(st.booleans()) for _ in range(4)]
    first, second = ([min(pair) for pair in zip(g.cuts["events"], ends, strict=False)] for g in growths.all)
    first = [0 if made else kept for made, kept in zip(again, first, strict=False)]
    growths = growths.in_logs([{"events": first}, {"events": second}])
    lines = inherited(frame(records), growths.cuts("events"))
    for partition in range(8):
        expected = [
            (p, offset, user)
            for segment in growths.segments("events", partition, 8)
            for p, offset, user in records
            if p == segment.partition
            and segment.begin <= offset
            and (segment.end is None or offset < segment.end)
        ]
        line = lines.filter(pl.col("partition") == partition).sort("offset")
        assert line["user_id"].to_list() == [user for *_, user in expected]
        shift = {p: growths.shift("events", p) for p in range(8)}
        assert line["offset"].to_list() == [offset + shift[p] for p, offset, _ in expected]
    assert sorted(own(lines).select("partition", "offset", "user_id").rows()) == sorted(records)


def test_without_growth_nothing_changes() -> None:
    records = frame([(0, 0, "a"), (1, 0, "b"), (1, 1, "b")])
    assert settled(records, []).equals(records)
    assert own(inherited(records, [])).equals(records)
    assert numbered(records, [])["number"].to_list() == [0, 0, 1]
