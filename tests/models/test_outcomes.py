"""Whose an event is, and the examples of a list."""

from __future__ import annotations

import numpy as np
import pytest
from shown_lists import event, shown, with_unshown

from headrace.models.features.spec import SPEC
from headrace.models.outcomes import (
    ShownList,
    SlotOutcome,
    check,
    deed_rows,
    examples_of,
    item_key,
    list_of,
    outcome_rows,
    request_key,
)
from headrace.streams.errors import RejectedError

WAIT = 1000


def listed(ts: int, items: str, number: int = 0, at: int | None = None, reused: bool = True) -> ShownList:
    """Return a list shown at ``ts``; its record is written at ``at``."""
    at = ts if at is None else at
    return ShownList(ts, number, at, at + WAIT, reused, frozenset(map(item_key, items)))


def owner(item: str, ts: int, *lists: ShownList, at: int | None = None, differ: int = 100) -> int | None:
    """Return the number of the list that a click belongs to."""
    found = list_of(item_key(item), ts, ts if at is None else at, lists, differ)
    return None if found is None else found.number


def test_every_slot_becomes_an_example_with_its_own_features_and_outcome() -> None:
    first, second = examples_of(shown(), {1: SlotOutcome(clicked=True, dwell_ms=1500)})
    assert (first.clicked, second.clicked, second.dwell_ms) == (False, True, 1500)
    assert [first.position, second.position] == [0, 1]
    assert np.frombuffer(second.features, "<f4")[0] == len(SPEC)
    assert [e.position for e in examples_of(shown(), {}, [1])] == [1]


def test_what_was_not_shown_comes_after_the_slots_with_its_own_features_and_probability() -> None:
    impression = with_unshown(shown(), "x", "y", probability=0.2)
    outcomes = {0: SlotOutcome(clicked=True), 3: SlotOutcome(clicked=True, dwell_ms=900)}
    examples = examples_of(impression, outcomes)
    told = [(e.item_id, e.position, e.unshown, e.clicked, e.propensity) for e in examples]
    assert told == [
        ("a", 0, False, True, 0.9), ("b", 1, False, False, 0.9),
        ("x", 2, True, False, 0.2), ("y", 3, True, True, 0.2),
    ]  # fmt: skip
    assert (examples[3].dwell_ms, examples[3].score, examples[3].explored) == (900, 0.25, False)
    assert all(set(np.frombuffer(e.features, "<f4")) == {7.0} for e in examples[2:])
    for first in range(5):
        assert examples_of(impression, outcomes, range(first, 4)) == examples[first:]


def test_an_outcome_holds_everything_that_happened_and_nothing_twice() -> None:
    events = [event("a"), event("a", "dwell", dwell_ms=1500), event("a", "save"), event("a", "hide")]
    _, rows = outcome_rows([(e, 0) for e in (*events, *events)], WAIT, 0)
    outcome = SlotOutcome()
    for *_, dwell_ms, what in rows.tolist():
        outcome.add(what, dwell_ms)
    assert outcome == SlotOutcome(True, 1500, True, True)


def test_events_that_change_no_label_are_not_kept() -> None:
    alone = [event("a", "skip", request=""), event("a", "follow", request="")]
    keys, rows = outcome_rows([(e, 0) for e in (*alone, event("a", request=""))], WAIT, 0)
    assert len(keys) == len(rows) == 0
    keys, rows = deed_rows([(e, 0) for e in (*alone, event("a"), event("a", "skip"))], WAIT, 0)
    assert len(keys) == len(rows) == 0


def test_two_users_may_use_the_same_request_id() -> None:
    assert request_key("u", "1") != request_key("other", "1")
    assert request_key("u", "1") == request_key("u", "1")


def test_with_a_reused_id_an_event_belongs_to_the_newest_list_before_it_that_holds_the_item() -> None:
    """one: a b at 100; two: b c at 200; three: a b at 300."""
    one, two, three = listed(100, "ab", 1), listed(200, "bc", 2), listed(300, "ab", 3)
    told = {
        ("a", 150): 1, ("b", 150): 1, ("c", 150): None,
        ("a", 250): 1, ("b", 250): 2, ("c", 250): 2,
        ("a", 350): 3, ("b", 350): 3, ("c", 350): 2,
        ("b", 200): 2, ("b", 99): None,
    }  # fmt: skip
    assert {(item, ts): owner(item, ts, three, one, two) for item, ts in told} == told


def test_of_two_lists_with_the_same_time_the_one_written_last_counts() -> None:
    assert owner("a", 150, listed(100, "a", 1), listed(100, "a", 2)) == 2


def test_the_only_list_of_a_request_may_be_dated_a_little_after_its_event() -> None:
    """The clock of a phone is slow: it dates a click before the list."""
    only = listed(1000, "a", reused=False)
    assert owner("a", 950, only, at=1010) == 0
    assert owner("a", 899, only, at=1010) is None, "clocks differ by less"
    assert owner("a", 950, only, at=990) is None, "sent before the list was shown"
    assert owner("a", 950, only._replace(reused=True), at=1010) is None, "it may be of a list before"


def test_an_event_sent_after_its_list_has_closed_labels_nothing() -> None:
    only = listed(0, "a")
    assert owner("a", 10, only, at=WAIT - 1) == 0
    assert owner("a", 10, only, at=WAIT) is None
    late = listed(900, "a", 1)
    assert owner("a", 10, only, late, at=1500) is None, "it does not go to a later list"


@pytest.mark.parametrize(
    ("change", "field"),
    [({"spec": "other"}, "spec"), ({"features": b"xx"}, "features"), ({"scores": [1.0]}, "item_ids")],
)
def test_an_impression_that_does_not_fit_is_rejected(change: dict[str, object], field: str) -> None:
    impression = shown()
    for name, value in change.items():
        setattr(impression, name, value)
    with pytest.raises(RejectedError) as caught:
        check(impression)
    assert caught.value.field == field


@pytest.mark.parametrize("change", [{"features": b"xx"}, {"scores": [1.0]}, {"probabilities": [1.0]}])
def test_a_sample_that_does_not_fit_is_rejected(change: dict[str, object]) -> None:
    impression = with_unshown(shown(), "x", "y")
    check(impression)
    assert impression.unshown is not None
    for name, value in change.items():
        setattr(impression.unshown, name, value)
    with pytest.raises(RejectedError) as caught:
        check(impression)
    assert caught.value.field == "unshown"
