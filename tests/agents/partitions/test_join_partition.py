"""Open lists of a partition: what they cost, when they close, what labels them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from shown_lists import event, shown

from headrace.agents.partitions.outcomes import JoinPartition
from headrace.agents.partitions.progress import IDLE_MS
from headrace.streams.messages.schemas import Event, Impression

WAIT, DIFFER = 1000, 500
ALL = 10_000


class Join:
    """A partition whose two topics are read together, one record at a time."""

    def __init__(self, now: int = 10**6, wait: int = WAIT) -> None:
        self.part = JoinPartition(wait, DIFFER, now)
        self.now = now
        self.offset = 0

    def show(self, impression: Impression, at: int, offset: int | None = None) -> None:
        offset = self.offset if offset is None else offset
        self.part.arrive(offset, offset + 1)
        self.part.show([impression], [offset], [at], self.now)
        self.offset = offset + 1

    def happen(self, *events: Event, at: int) -> None:
        self.part.happen([(e, at) for e in events], self.now)

    def read(self, to: int) -> None:
        self.part.events.read(to, self.now)
        self.part.shown.read(to, self.now)

    def close(self, to: int | None = None) -> dict[int, list[tuple[int, bool]]]:
        """Read up to a time; return (position, clicked) of what closes, by offset."""
        if to is not None:
            self.read(to)
        closing = self.part.closing(self.part.due(ALL))
        self.part.close(closing)
        return {
            c.offset: [(p, c.outcomes[p].clicked if p in c.outcomes else False) for p in range(c.slots)]
            for c in closing
        }


NO, YES = [(0, False), (1, False)], [(0, True), (1, False)]


def test_a_list_closes_after_its_wait_with_what_happened() -> None:
    join = Join()
    join.show(shown(ts=100), 100)
    join.happen(event("a", ts=110), at=110)
    assert join.close(100 + WAIT - 1) == {}
    assert join.close(100 + WAIT) == {0: YES}
    assert join.close(10**5) == {}
    assert len(join.part) == 0


def test_events_may_be_read_before_their_impression() -> None:
    join = Join()
    join.happen(event("a", ts=50), at=50)
    join.show(shown(), 0)
    assert join.close(WAIT) == {0: YES}


def test_events_wait_for_an_impression_that_is_read_late() -> None:
    """Impressions lag behind events by far more than the wait: the outcome must still be there."""
    join = Join()
    join.happen(event("a", ts=50), at=50)
    join.part.events.read(100 * WAIT, join.now)
    assert join.close() == {}
    join.show(shown(), 0)
    join.part.shown.read(100, join.now)
    assert join.close() == {}, "a later list of the request may still come"
    assert join.close(100 * WAIT) == {0: YES}


def test_events_that_no_list_waits_for_are_forgotten() -> None:
    join = Join()
    for i in range(1000):
        join.happen(event("a", request=f"r{i}", ts=i), at=i)
    before = join.part.nbytes
    join.close(10 * WAIT)
    assert join.part.nbytes < before / 2
    join.show(shown("r5"), 5)
    assert join.close(20 * WAIT) == {0: NO}


def test_every_list_of_a_reused_request_id_closes_with_its_own_events() -> None:
    """Offsets 0 and 1: the same request, the same items. The click is between them, sent twice."""
    join = Join()
    join.show(shown(ts=100), 100)
    join.happen(event("a", ts=150), at=150)
    join.show(shown(ts=200), 200)
    join.happen(event("a", ts=150), at=250)
    join.happen(event("b", ts=260), at=260)
    assert join.close(5 * WAIT) == {0: YES, 1: [(0, False), (1, True)]}


def test_a_list_does_not_take_the_events_of_a_list_before_it_that_has_closed() -> None:
    join = Join()
    join.show(shown(ts=100), 100)
    join.happen(event("a", ts=1050), at=1050)
    assert join.close(100 + WAIT) == {0: YES}
    join.show(shown(ts=1200), 1200)
    assert join.close(5 * WAIT) == {1: NO}


def test_an_item_that_is_shown_twice_in_a_list_is_labelled_twice() -> None:
    join = Join()
    join.show(shown(items=("a", "b", "a")), 0)
    join.happen(event("a", ts=10), at=10)
    assert join.close(WAIT) == {0: [(0, True), (1, False), (2, True)]}


def test_many_lists_close_in_the_order_of_their_offsets_each_with_its_events() -> None:
    rng, join = np.random.default_rng(0), Join()
    clicked = set()
    for i in range(2000):
        join.show(shown(f"r{i}", f"u{i % 50}", ts=i), i)
        if rng.random() < 0.3:
            clicked.add(i)
            join.happen(event("a", user=f"u{i % 50}", request=f"r{i}", ts=i), at=i + 5)
        if i % 7 == 0:
            join.read(i)
    seen: dict[int, list[tuple[int, bool]]] = {}
    for to in range(0, 5000, 37):
        seen |= join.close(to)
    assert list(seen) == list(range(2000))
    assert {i for i, slots in seen.items() if slots[0][1]} == clicked
    assert len(join.part) == 0


def test_a_batch_of_closing_lists_is_bounded_by_its_slots() -> None:
    join = Join()
    for i in range(10):
        join.show(shown(f"r{i}", items=[f"i{k}" for k in range(20)]), 0)
    join.read(WAIT)
    assert [join.part.due(slots) for slots in (1, 20, 50, 10_000)] == [1, 1, 2, 10]


def test_lists_that_close_in_several_turns_after_an_outage_keep_their_events() -> None:
    join = Join()
    for i in range(10):
        join.show(shown(f"r{i}", ts=i), i)
        join.happen(event("a", request=f"r{i}", ts=i), at=i)
    join.read(100 * WAIT)
    seen = []
    while n := join.part.due(4):
        closing = join.part.closing(n)
        seen += [c.outcomes[0].clicked for c in closing]
        join.part.close(closing)
    assert seen == [True] * 10


def test_an_open_list_of_20_slots_costs_less_than_2_kb() -> None:
    """Measured with an event for every list, and everything the allocators hold."""
    lists, slots, chunk = 8000, 20, 16
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    part = JoinPartition(WAIT, DIFFER, 0)
    for start in range(0, lists, chunk):
        some = [
            shown(f"request-{i}", f"user-{i}", [f"item-{i}-{k}" for k in range(slots)], ts=start)
            for i in range(start, start + chunk)
        ]
        part.arrive(start, start + chunk)
        part.show(some, range(start, start + chunk), [start] * chunk, lists)
        clicks = [
            (event(f"item-{i}-3", user=f"user-{i}", request=f"request-{i}", ts=start), start)
            for i in range(start, start + chunk)
        ]
        part.happen(clicks, lists)
        part.events.read(start, lists)
        part.shown.read(start, lists)
        part.close([])
    some.clear(), clicks.clear()
    held = (tracemalloc.get_traced_memory()[0] - before) / lists
    tracemalloc.stop()
    assert len(part) == lists
    assert held < 700, "a third of what is allowed"
    assert part.nbytes / lists < 700


# -- when time moves on


def test_after_an_outage_nothing_closes_before_its_events_were_read() -> None:
    """Records of ten minutes ago, read now: wall time must wait until both topics are at their end."""
    then, now = 5000, 600_000
    join = Join(now)
    join.show(shown(ts=then), then)
    join.part.shown.read(then, now)
    join.part.events.idle(now + 5 * IDLE_MS, at_end=False)
    assert join.close() == {}
    join.happen(event("a", ts=then), at=then + 10)
    join.part.events.read(then + 10, now + 5 * IDLE_MS)
    join.part.shown.idle(now + 7 * IDLE_MS, at_end=True)
    assert join.close() == {}
    join.part.events.idle(now + 7 * IDLE_MS, at_end=True)
    assert join.close() == {0: YES}


@pytest.mark.parametrize("stamp", [-1, 0, 5, 4_000_000_000_000])
@pytest.mark.parametrize("first", [True, False])
def test_no_record_timestamp_of_a_list_closes_it_early_or_never(stamp: int, first: bool) -> None:
    now = 1_800_000_000_000
    join = Join(now)
    if not first:
        join.show(shown("q", ts=now), now)
    join.show(shown(ts=now), stamp)
    offset = join.offset - 1
    join.show(shown("z", ts=now), now)
    join.now = now + 50 * WAIT
    assert join.close(now + WAIT - 1) == {}
    join.happen(event("a", ts=now + 1), at=now + WAIT - 1)
    assert join.close(now + WAIT)[offset] == YES


def test_a_list_dated_back_by_its_writer_and_itself_stays_open_while_its_topic_is_read_live() -> None:
    """The clock of a serving worker was set back an hour. Then nothing comes for two seconds."""
    now, wait = 10_000_000, 100 * IDLE_MS
    join = Join(now, wait)
    join.part.shown.idle(now, at_end=True)
    join.show(shown(ts=now - 3_600_000), now - 3_600_000)
    join.part.shown.read(now - 3_600_000, now)
    for progress in (join.part.shown, join.part.events):
        progress.idle(now + 2 * IDLE_MS, at_end=True)
    join.now = now + 10 * wait
    assert join.close(now + wait - IDLE_MS - 1) == {}
    assert join.close(now + wait) == {0: NO}


@pytest.mark.parametrize("stamp", [-5, 0])
def test_events_with_old_timestamps_harm_nothing(stamp: int) -> None:
    join = Join()
    join.show(shown(ts=100), 100)
    join.happen(event("a", ts=110), at=110)
    join.happen(event("b", ts=120), at=stamp)
    join.part.events.read(stamp, join.now)
    assert join.close(100 + WAIT)[0][0] == (0, True)


def test_an_event_dated_after_the_wait_labels_nothing_whenever_it_is_read() -> None:
    """The clock of its producer is ahead: it is read before the list closes, or again much later."""
    for now in (200, 10**6):
        join = Join(now)
        join.show(shown(ts=100), 100)
        join.happen(event("a", ts=110), at=100 + WAIT)
        join.happen(event("b", ts=110), at=100 + WAIT - 1)
        join.now = 10**6
        assert join.close(5 * WAIT) == {0: [(0, False), (1, True)]}


@pytest.mark.parametrize(("live", "label"), [(True, YES), (False, NO)])
def test_when_the_wait_of_a_list_dated_back_begins_depends_on_when_it_was_read(
    live: bool, label: list[tuple[int, bool]]
) -> None:
    """Dated back by three waits. Live, the wait begins when it came; after a restart, at its own time."""
    now = 10_000_000
    join = Join(now)
    if live:
        join.part.shown.idle(now + IDLE_MS, at_end=True)
    join.now = now + 10 * WAIT
    join.show(shown(ts=now - 3 * WAIT), now - 3 * WAIT)
    join.happen(event("a", ts=now + 5), at=now + 5)
    assert join.close(now + WAIT - 1) == ({} if live else {0: label})
    assert join.close(now + 5 * WAIT) == ({0: label} if live else {})


# -- when the consumer goes back or forward


def test_records_that_are_read_again_open_their_lists_once() -> None:
    join = Join()
    for i in range(5):
        join.show(shown(f"r{i}", ts=100), 100)
    join.happen(event("a", request="r3", ts=110), at=110)
    for i in range(2, 5):
        join.show(shown(f"r{i}", ts=100), 100, offset=i)
    assert join.close(5 * WAIT) == {0: NO, 1: NO, 2: NO, 3: YES, 4: NO}


def test_closed_lists_that_are_read_again_close_again() -> None:
    """What is written of them says the topic `examples`."""
    join = Join()
    for i in range(4):
        join.show(shown(f"r{i}"), 0)
    assert list(join.close(WAIT)) == [0, 1, 2, 3]
    join.show(shown("r2"), 0, offset=2)
    join.show(shown("r3"), 0, offset=3)
    assert list(join.close(5 * WAIT)) == [2, 3]


def test_lists_that_are_read_again_while_others_are_written_stay_open() -> None:
    join = Join()
    for i in range(4):
        join.show(shown(f"r{i}"), 0)
    join.read(WAIT)
    closing = join.part.closing(4)
    join.show(shown("r2"), 0, offset=2)
    join.show(shown("r3"), 0, offset=3)
    join.show(shown("r4"), 0, offset=4)
    join.part.close(closing)
    assert list(join.close(5 * WAIT)) == [4]


def test_a_list_knows_from_where_on_everything_was_read() -> None:
    join = Join()
    for offset in (10, 11, 20, 21, 15, 16):
        join.show(shown(f"r{offset}"), 0, offset=offset)
    join.read(5 * WAIT)
    assert [(c.offset, c.since) for c in join.part.closing(join.part.due(ALL))] == [
        (10, 10),
        (11, 10),
        (15, 15),
        (16, 15),
    ]
