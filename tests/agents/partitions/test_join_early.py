"""Slots that close before their list: when, with which outcome, and that batches do not matter."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from join_cuts import Cut
from random_lists import lists_and_events
from shown_lists import event, shown

from headrace.agents.partitions.outcomes import JoinPartition
from headrace.models.slot_labels import Rules
from headrace.streams.messages.schemas import Event, Impression
from headrace.streams.settings import MINUTE_MS

WAIT, GRACE = 1000, 50
ITEMS = ("a", "b", "c", "d")


class Join:
    """A partition whose topics are read together; what it closes early is taken as written."""

    def __init__(self, grace: int = GRACE) -> None:
        self.part = JoinPartition(WAIT, 500, 0, rules=Rules(grace, 1))
        self.offset = self.now = 0

    def show(self, impression: Impression, at: int) -> None:
        self.now = max(self.now, at)
        self.part.arrive(self.offset, self.offset + 1)
        self.part.show([impression], [self.offset], [at], self.now)
        self.offset += 1

    def happen(self, *events: Event) -> None:
        for one in events:
            self.now = max(self.now, one.ts)
            self.part.happen([(one, one.ts)], self.now)

    def early(self, to: int, requests: int = 100, slots: int = 100) -> dict[int, dict[int, str]]:
        """Read up to a time; return the labels of what closes early, by offset and position."""
        self.now = max(self.now, to)
        self.part.events.read(to, self.now)
        self.part.shown.read(to, self.now)
        closing = self.part.early(requests, slots)
        assert all(c.slots == len(ITEMS) for c in closing)
        return {c.offset: {p: c.outcomes[p].label for p in c.early or ()} for c in closing}


def test_what_was_passed_closes_when_the_grace_is_over() -> None:
    join = Join()
    join.show(shown(items=ITEMS, ts=100), 100)
    join.happen(event("b", "skip", ts=200), event("c", ts=210))
    assert join.early(249) == {}
    assert join.early(250) == {0: {0: "passed", 1: "skipped"}}
    assert join.early(1099) == {0: {0: "passed", 1: "skipped"}}, "looked at again for the click"
    (closing,) = join.part.closing(1) if join.early(1100) == {} else ()
    labels = [closing.outcomes[p].label if p in closing.outcomes else "unseen" for p in range(4)]
    assert labels == ["passed", "skipped", "touched", "unseen"]


def test_a_touch_that_comes_too_late_is_counted() -> None:
    join = Join()
    join.show(shown(items=ITEMS, ts=100), 100)
    join.happen(event("c", ts=200), event("a", ts=250), event("b", ts=249), event("b", ts=990))
    assert join.early(260) == {0: {0: "passed"}}
    join.early(1100)
    closing = join.part.closing(1)
    assert [closing[0].outcomes[p].clicked for p in range(3)] == [False, True, True]
    join.part.close(closing)
    assert join.part.late == 1


def test_a_new_list_of_the_surface_closes_what_is_below_the_touched_slot() -> None:
    join = Join()
    for k, (user, surface) in enumerate([("u", "home"), ("u", "home"), ("u", "related"), ("v", "home")]):
        one = msgspec.structs.replace(shown(f"r{k}", user, ITEMS, 100 + k), surface=surface)
        join.show(one, 100 + k)
        join.happen(event("b", user=user, request=f"r{k}", ts=110))
    again = msgspec.structs.replace(shown("r1", "u", ITEMS, 120), surface="home")
    join.show(again, 120)
    expected = {0: {0: "passed"}, 1: {0: "passed"}, 2: {0: "passed"}, 3: {0: "passed"}}
    assert join.early(160) == expected, "list 1 came before the click on list 0; r1 was asked for again"
    join.show(shown("r5", "u", ITEMS, 170), 170)
    join.happen(event("a", request="r5", ts=180))
    join.show(shown("r6", "u", ITEMS, 190), 190)
    assert join.early(239) == {1: {0: "passed"}}, "looked at again: r1 has a next list"
    assert join.early(240) == {5: {1: "passed"}}


def test_lists_that_are_read_in_one_batch_know_their_next_one() -> None:
    join = Join()
    lists = [shown(f"r{k}", user, ITEMS, 100 + k) for k, user in enumerate("uvuvu")]
    join.part.arrive(0, 5)
    join.happen(*(event("a", user=i.user_id, request=i.request_id, ts=i.ts) for i in lists))
    join.part.show(lists, range(5), [i.ts for i in lists], 110)
    assert join.early(152) == {0: {1: "passed"}}
    assert join.early(154) == {k: {1: "passed"} for k in range(3)}, "the last two have no next one"


def test_the_work_of_one_turn_is_bounded_and_nothing_is_left_out() -> None:
    join, seen = Join(), dict[int, dict[int, str]]()
    for k in range(30):
        join.show(shown(f"r{k}", f"u{k}", ITEMS, 100), 100)
        join.happen(event("d", user=f"u{k}", request=f"r{k}", ts=110))
    turns = 0
    while turns < 100 and len(seen) < 30:
        found = join.early(200, requests=7, slots=8)
        assert len(found) <= 3, "until there are 8 slots"
        seen |= found
        turns += 1
    assert seen == {k: {0: "passed", 1: "passed", 2: "passed"} for k in range(30)}
    assert turns <= 11


def test_in_a_backlog_nothing_is_read_twice() -> None:
    join = Join()
    join.show(shown(items=ITEMS, ts=100), 100)
    join.happen(event("d", ts=110))
    join.now = 10 * WAIT
    join.happen(event("x", request="other", ts=10 * WAIT))
    assert join.early(500) == {}


@pytest.mark.parametrize("seed", range(8))
def test_every_cut_into_batches_gives_the_same_examples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shown_lists, events = lists_and_events(rng)
    rules = Rules(int(rng.choice([1, 5000, 30_000])), int(rng.integers(3)))
    found, early = list[dict[tuple[str, int, int], object]](), list[int]()
    for k, longest in enumerate((5000, 60_000, 15 * MINUTE_MS)):
        cut = Cut(shown_lists, events, 10 * MINUTE_MS, rules).run(np.random.default_rng(k), longest)
        assert len(cut.examples) == sum(len(i.item_ids) for i, _ in shown_lists), "each slot once"
        found.append({(e.request_id, e.ts, e.position): e for e, _ in cut.examples})
        early.append(cut.early)
        assert len(cut.part) == 0
    assert all(one == found[0] for one in found)
    assert early[0] > 10
    assert {e.label for e in found[0].values()} == {"touched", "skipped", "passed", "unseen"}  # type: ignore[attr-defined]
