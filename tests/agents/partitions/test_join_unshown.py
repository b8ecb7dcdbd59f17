"""Candidates that were not shown: what labels them, and that they wait with their list."""

from __future__ import annotations

from shown_lists import event, shown, with_unshown

from headrace.agents.partitions.outcomes import Closing, JoinPartition
from headrace.models.outcomes import SlotOutcome
from headrace.streams.messages.schemas import Event, Impression

WAIT, NOW, ALL = 1000, 10**6, 10_000


class Join:
    """A partition whose lists come with candidates that were not shown."""

    def __init__(self) -> None:
        self.part = JoinPartition(WAIT, 500, NOW, unshown=True)
        self.offset = 0

    def show(self, impression: Impression, at: int) -> None:
        self.part.arrive(self.offset, self.offset + 1)
        self.part.show([impression], [self.offset], [at], NOW)
        self.offset += 1

    def happen(self, *events: Event, at: int | None = None) -> None:
        self.part.happen([(e, e.ts if at is None else at) for e in events], NOW)

    def close(self, to: int, most: int = ALL) -> list[Closing]:
        self.part.events.read(to, NOW)
        self.part.shown.read(to, NOW)
        closing = self.part.closing(self.part.due(most))
        self.part.close(closing)
        return closing


def told(closing: Closing) -> dict[int, SlotOutcome]:
    return {k: v for k, v in closing.outcomes.items() if v != SlotOutcome()}


def test_what_the_user_did_with_the_item_on_no_list_labels_it() -> None:
    join = Join()
    join.show(with_unshown(shown(ts=100), "c", "d", "e"), 100)
    join.happen(
        event("c", ts=110, request=""),
        event("d", "dwell", ts=120, request="", dwell_ms=900),
        event("d", "like", ts=130, request=""),
        event("d", ts=130, request="another"),
        event("c", "like", ts=130, request="r"),
        event("a", ts=140, request=""),
        event("e", ts=150, user="v", request=""),
        event("e", "skip", ts=150, request=""),
    )
    (closing,) = join.close(100 + WAIT)
    assert closing.slots == 5
    assert told(closing) == {2: SlotOutcome(clicked=True), 3: SlotOutcome(dwell_ms=900, liked=True)}


def test_only_what_happens_while_the_list_is_open_labels_it() -> None:
    join = Join()
    join.show(with_unshown(shown(ts=100), "c", "d", "e"), 100)
    join.happen(event("c", ts=99, request=""), at=150)
    join.happen(event("d", ts=150, request=""), at=100 + WAIT)
    join.happen(event("e", ts=100, request=""), at=99 + WAIT)
    (closing,) = join.close(100 + WAIT)
    assert told(closing) == {4: SlotOutcome(clicked=True)}


def test_it_belongs_to_the_newest_list_before_it_and_may_be_read_first() -> None:
    join = Join()
    early = event("c", "like", ts=119, request="")
    join.happen(event("c", ts=139, request=""), early, event("c", ts=150, request=""))
    for k, sample in enumerate(["c", "dc", "", "c"]):
        join.show(with_unshown(shown(f"{k}", ts=100 + 20 * k), *sample), 100 + 20 * k)
    closed = join.close(200 + WAIT, most=3) + join.close(200 + WAIT)
    assert [told(c) for c in closed] == [
        {2: SlotOutcome(liked=True)}, {3: SlotOutcome(clicked=True)}, {}, {},
    ]  # fmt: skip
    assert [c.slots for c in closed] == [3, 4, 2, 3]


def test_they_take_nothing_from_the_slots_of_a_list() -> None:
    """Item c is a slot of the second list of a request id, and was not shown on the first."""
    join = Join()
    join.show(with_unshown(shown(ts=100), "c"), 100)
    join.show(shown(items=("c", "a"), ts=200), 200)
    join.happen(event("c", ts=210), event("a", ts=150))
    first, second = join.close(200 + WAIT)
    touched = {0: SlotOutcome(clicked=True, label="touched")}
    assert told(first) == told(second) == touched


def test_lists_that_close_in_parts_and_are_read_again_keep_theirs() -> None:
    join = Join()
    for k in range(4):
        join.show(with_unshown(shown(f"{k}", user=f"u{k}", ts=100), "c", "d"), 100)
    join.part.arrive(2, 3)  # the consumer went back
    for k in (2, 3):
        join.offset = k
        join.show(with_unshown(shown(f"{k}", user=f"u{k}", ts=100), "d", "c"), 100)
    join.happen(*(event("c", ts=150, user=f"u{k}", request="") for k in range(4)))
    closed = [join.close(100 + WAIT, most=4)[0] for _ in range(4)]
    assert [list(told(c)) for c in closed] == [[2], [2], [3], [3]]
    assert len(join.part) == 0


def test_what_no_list_waits_for_is_forgotten() -> None:
    join = Join()
    for k in range(200):
        join.show(with_unshown(shown(f"{k}", ts=1000 * k), "c"), 1000 * k)
        join.happen(*(event(f"{j}", ts=1000 * k, request="") for j in range(50)))
        join.close(1000 * k)
    assert join.part.nbytes < 60_000, "10,000 events would take 500 kB"
