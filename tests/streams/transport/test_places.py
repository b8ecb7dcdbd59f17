"""Where a partition is read from, for everything that may have happened to its log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from headrace.streams.tables.changes import larger_mark
from headrace.streams.transport.fetching import Fetched
from headrace.streams.transport.places import NOTHING, Place, Source, place_after
from headrace.streams.transport.positions import Positions
from headrace.streams.transport.starts import OTHER, SAME, Verdict, View, compare, decide, kept_of

ONE, TWO = b"1" * 16, b"2" * 16
FOUND = (1_700_000_000_000, 0xFFFFFFFF)
#: Read up to 100, in epoch 3 of topic ONE; 1000 offsets of an earlier topic came before.
PLACE = Place(100, 1000, 99, *FOUND, 3, ONE)
TP = TopicPartition("events", 0)


def record(offset: int, key: bytes | None = b"k", value: bytes | None = b"v") -> SimpleNamespace:
    return SimpleNamespace(offset=offset, key=key, value=value, timestamp=-5)


@pytest.mark.parametrize("place", [NOTHING, PLACE, Place(2**62, -3, 2**62 - 1, -1, 0, -1, b"")])
def test_a_place_survives_the_changelog_and_the_commit(place):
    assert Place.decode(place.encode()) == place
    assert Place.of_text(place.text()) == place
    assert len(place.text()) < 200, "a broker takes 4096 bytes of metadata"


@pytest.mark.parametrize("text", [None, "", "at1:", "at1:%%%", "at1:AAAA", "somebody else's"])
def test_other_metadata_is_no_place(text):
    assert Place.of_text(text) is None


def test_the_place_after_a_record_has_its_fingerprint():
    place = place_after(record(7), Source(10, 2, ONE))
    assert (place.next, place.base, place.at, place.timestamp, place.epoch, place.topic_id) == (
        8,
        10,
        7,
        -5,
        2,
        ONE,
    )
    assert place.crc != place_after(record(7, value=b"w"), Source()).crc
    assert place_after(record(7, None, None), Source()).crc == 0
    assert place.seen == 18


@pytest.mark.parametrize(
    ("view", "verdict"),
    [
        (View(0, 100, ONE, FOUND), SAME),
        (View(0, 500, ONE, FOUND, 100), SAME),
        (View(0, 500, b"", FOUND), SAME),  # no ids: the record says it
        (View(200, 500, ONE, None, 150), SAME),  # deleted by retention
        (View(0, 500, ONE, None, 300), SAME),  # removed by compaction
        (View(0, 90, ONE, None, 120), SAME),  # a new leader does not show its last records yet
        (View(0, 500, TWO, FOUND), OTHER),
        (View(0, 0, TWO), OTHER),
        (View(0, 50, b""), OTHER),
        (View(0, 500, b"", (1, 1)), OTHER),
        (View(0, 80, ONE, None, 80), Verdict("lost", 80)),
        (View(0, 90, ONE, None, 80), Verdict("lost", 80)),  # ten new ones came already
        (View(0, 500, ONE, (1, 1), 80), Verdict("lost", 80)),
        (View(0, 80, ONE, None, -1), Verdict("lost", 80)),
        (View(0, 500, ONE, (1, 1), -1), Verdict("lost", 99)),
    ],
)
def test_a_log_is_compared_with_a_place(view, verdict):
    assert compare(PLACE, view) == verdict


def test_a_place_without_a_record_is_compared_by_the_end():
    begin = Place(40, 1000, topic_id=ONE)
    assert compare(begin, View(0, 40, ONE)) == SAME
    assert compare(begin, View(0, 30, ONE)) == Verdict("lost", 30)
    assert compare(begin, View(0, 30)) == OTHER
    assert compare(NOTHING, View(0, 0)) == SAME


LOG = View(0, 500, ONE)


def test_a_group_starts_at_its_commit_and_a_state_at_the_earlier_of_two():
    assert decide(LOG, None).offset == 0
    assert decide(LOG, 100)[:3] == (100, 0, None)
    assert decide(LOG, 100, kept=(PLACE, SAME))[:5] == (100, 1000, None, (), None)
    later = PLACE._replace(next=130, at=129)
    assert decide(LOG, 100, (later, SAME), (PLACE, SAME))[:4] == (100, 1000, None, ())
    assert decide(LOG, None, (later, SAME))[:4] == (130, 1000, None, ())


def test_a_moved_group_and_a_lost_state_are_said():
    for committed, start in ((20, 20), (300, 100)):
        moved = decide(LOG, committed, (PLACE, SAME))
        assert moved.offset == start
        assert [action for action, _ in moved.warnings] == ["group_moved"]
    behind = decide(LOG, 300, (PLACE, SAME), (PLACE._replace(next=300, at=299), SAME))
    assert (behind.offset, behind.base) == (100, 1000), "the changelog has lost its tail"
    assert behind.warnings[0][0] == "group_moved"
    hole = decide(LOG, 102, (PLACE, SAME), (PLACE._replace(next=100), SAME))
    assert (hole.offset, hole.warnings) == (100, ()), "markers of a transaction lie between"
    empty = decide(LOG, 300, (NOTHING, SAME), (PLACE._replace(next=300, at=299), SAME))
    assert (empty.offset, empty.base) == (0, 1000), "the commit knows the base"
    assert [action for action, _ in empty.warnings] == ["state_lost"]
    assert decide(View(40, 500, ONE), None, (NOTHING, SAME))[:5] == (40, 0, None, (), None)


def test_deleted_records_are_unread_only_when_no_state_has_them():
    log = View(150, 500, ONE)
    assert decide(log, 100).unread == (100, 150)
    assert decide(log, 100, kept=(PLACE, SAME)).unread == (100, 150)
    later = PLACE._replace(next=170, at=169)
    assert decide(log, 100, (later, SAME), (PLACE, SAME)) == (150, 1000, None, (), None)
    assert decide(log, 100, (PLACE, SAME), (PLACE, SAME)).unread == (100, 150)


def test_another_topic_is_read_from_its_beginning_with_numbers_that_go_on():
    log = View(5, 500, TWO)
    for start in (decide(log, 100, (PLACE, OTHER), (PLACE, OTHER)), decide(log, None, (PLACE, OTHER))):
        assert (start.offset, start.base, start.turn) == (5, 1095, None)
        assert start.warnings[0][0] == "topic_made_again"
    # The commit is of the new topic already: numbers follow from the state again, as the first time.
    assert decide(log, 60, (PLACE, OTHER), (Place(60, 1095, 59, topic_id=TWO), SAME)).base == 1095
    assert decide(log, 100, (Place(60, 1095, 59, topic_id=TWO), SAME), (PLACE, OTHER)).offset == 60
    assert decide(View(0, 30), 100)[:2] == (0, 100), "a group of an older version"


def test_after_lost_records_numbers_go_on_at_the_cut():
    lost = Verdict("lost", 80)
    assert decide(LOG, 100, (PLACE, lost), (PLACE, lost))[:3] == (80, 1020, None)
    assert decide(LOG, 100, kept=(PLACE, lost))[:3] == (80, 1020, None)
    again = decide(LOG, 60, (PLACE, lost), (PLACE._replace(next=60, at=59), SAME))
    assert again[:3] == (60, 1000, (80, 1020)), "the records before the cut keep their numbers"
    # State and source have both lost records: the numbers of those that are gone are not given again.
    state = PLACE._replace(next=70, at=69)
    assert decide(LOG, 100, (state, SAME), (PLACE, lost))[:3] == (70, 1000, (80, 1020))


def test_records_around_a_turn_get_the_base_of_their_side():
    turns = Positions(lambda: None, lambda tp, offset: None)
    turns._places[TP], turns._turns[TP] = Place(60, 1000, topic_id=ONE), (80, 1020)
    first, second = turns.take(Fetched(TP, [record(n) for n in range(60, 90)], 90, 200), 0, 4)
    assert ([r.offset for r in first.records], first.position, first.source.base) == (
        [*range(60, 80)],
        80,
        1000,
    )
    assert ([r.offset for r in second.records], second.position, second.source.base) == (
        [*range(80, 90)],
        90,
        1020,
    )
    assert (first.turn, second.turn) == (None, 80)
    (third,) = turns.take(Fetched(TP, [record(90)], 91, 200), 0, 4)
    assert (third.turn, third.source) == (None, Source(1020, 4, ONE))


def test_of_two_places_in_a_changelog_the_later_one_counts():
    late = PLACE._replace(next=101).encode()
    assert larger_mark(b"place", late, PLACE.encode()) == late
    assert larger_mark(b"place", PLACE.encode(), late) == late
    turned = Place(0, 1101).encode()
    assert larger_mark(b"place", PLACE.encode(), turned) == turned


@pytest.mark.parametrize(
    ("view", "offset"),
    [
        (View(0, 500, ONE, FOUND), 100),
        (View(200, 500, ONE, None, 150), 100),  # deleted by retention
        (View(0, 500, TWO, FOUND), 0),  # made again
        (View(0, 40, b"", None), 0),  # no ids: a log that ends before is another one
        (View(0, 500, ONE, (1, 2), 70), 70),  # the records from 70 on are others
        (View(0, 40, ONE, None), 40),
    ],
)
def test_a_log_is_that_of_a_place_up_to_what_it_has_lost(view, offset):
    assert kept_of(PLACE, view) == offset
