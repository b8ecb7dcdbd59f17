"""What the labels of slots are, and when slots close: told by positions and events."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.models.outcomes import CLICKED, DWELT, FOLLOWED, HIDDEN, LIKED, SKIPPED, SlotOutcome
from headrace.models.slot_labels import Deed, Rules, Span, ended

GRACE, WAIT = 30, 1000
RULES = Rules(GRACE, 1)


def deed(position: int, what: int, at: int, dwell_ms: int = 0) -> Deed:
    return Deed(position, position, at, what, dwell_ms)


def told(*deeds: Deed, slots: int = 6, next_at: int = 0, rules: Rules = RULES) -> tuple[str, list[int], int]:
    """Return the first letters of the labels, when the slots close (-1: with the list), late touches."""
    found = ended(deeds, slots, Span(0, WAIT, next_at), rules)
    labels = [found.outcomes.get(p, SlotOutcome()).label[0] for p in range(slots)]
    return "".join(labels), [-1 if at == WAIT else at for at in found.closes], found.late


def test_a_list_that_nobody_touched_was_never_seen() -> None:
    assert told() == ("uuuuuu", [-1] * 6, 0)
    assert told(next_at=50) == ("uuuuuu", [-1] * 6, 0), "perhaps it never came onto a screen"


def test_slots_above_an_event_are_passed_and_those_below_never_seen() -> None:
    assert told(deed(2, CLICKED, 100)) == ("pptuuu", [130, 130, -1, -1, -1, -1], 0)


@pytest.mark.parametrize("what", [CLICKED, DWELT, LIKED, FOLLOWED])
def test_what_is_touched_stays_open_for_the_whole_wait(what: int) -> None:
    assert told(deed(0, what, 100), deed(3, CLICKED, 110)) == ("tpptuu", [-1, 140, 140, -1, -1, -1], 0)


@pytest.mark.parametrize("what", [SKIPPED, HIDDEN, SKIPPED | HIDDEN])
def test_what_is_skipped_closes_early_and_those_above_too(what: int) -> None:
    assert told(deed(2, what, 100)) == ("ppsuuu", [130, 130, 130, -1, -1, -1], 0)


def test_a_touch_within_the_grace_counts_and_keeps_the_slot_open() -> None:
    passed, skip = deed(4, DWELT, 100), deed(1, SKIPPED, 100)
    for at, label, closes, late in ((129, "t", -1, 0), (130, "s", 130, 1)):
        back = deed(1, CLICKED, at)
        assert told(passed, skip, back) == (f"p{label}pptu", [130, closes, 130, 130, -1, -1], late)
    for at, label, closes, late in ((129, "t", -1, 0), (130, "p", 130, 1)):
        back = deed(1, CLICKED, at)
        assert told(passed, back) == (f"p{label}pptu", [130, closes, 130, 130, -1, -1], late)


def test_the_first_sign_decides_when_a_slot_closes() -> None:
    deeds = deed(2, SKIPPED, 300), deed(5, DWELT, 200), deed(1, SKIPPED, 100)
    assert told(*deeds) == ("pspppt", [130, 130, 230, 230, 230, -1], 0), "it was closed when it was skipped"
    assert told(*deeds[:2]) == ("pppppt", [230] * 5 + [-1], 0)
    assert told(deed(2, SKIPPED, 220), deeds[1]) == ("ppsppt", [230] * 5 + [-1], 0)


def test_a_new_list_passes_what_is_on_the_screen_with_a_slot_that_has_an_event_before_it() -> None:
    one, two = deed(1, CLICKED, 100), deed(3, CLICKED, 201)
    assert told(one, next_at=200) == ("ptpuuu", [130, -1, 230, -1, -1, -1], 0)
    assert told(one, two, next_at=200) == ("ptptuu", [130, -1, 230, -1, -1, -1], 0), (
        "the old list is used again"
    )
    assert told(one, next_at=200, rules=Rules(GRACE, 3)) == ("ptpppu", [130, -1, 230, 230, 230, -1], 0)
    assert told(one, next_at=200, rules=Rules(GRACE, 0)) == ("ptuuuu", [130, -1, -1, -1, -1, -1], 0)
    assert told(one, next_at=99) == told(one), "the event came after it"
    assert told(one, next_at=WAIT) == told(one), "the list had closed"


def test_nothing_closes_after_its_list_or_before_it_was_shown() -> None:
    assert told(deed(1, SKIPPED, WAIT - 5), slots=2) == ("ps", [-1, -1], 0)
    assert told(deed(1, SKIPPED, -500), slots=2) == ("ps", [30, 30], 0), "the clock of its producer is behind"


def test_an_item_that_is_shown_twice_is_seen_where_it_comes_first() -> None:
    twice = [Deed(p, 1, 100, CLICKED, 0) for p in (1, 4)]
    assert told(*twice) == ("ptuutu", [130, -1, -1, -1, -1, -1], 0)


def test_outcomes_have_what_happened_before_their_slot_closed() -> None:
    deeds = [deed(1, HIDDEN, 90), deed(3, DWELT, 100, 700), deed(3, DWELT, 990, 900), deed(0, DWELT, 500, 50)]
    found = ended(deeds, 4, Span(0, WAIT), RULES)
    assert found.outcomes == {
        0: SlotOutcome(label="passed"),
        1: SlotOutcome(hidden=True, label="skipped"),
        2: SlotOutcome(label="passed"),
        3: SlotOutcome(dwell_ms=900, label="touched"),
    }
    assert found.late == 1


def test_what_is_read_later_changes_no_slot_that_has_closed() -> None:
    """At any moment, the events dated before it decide all slots that close by then."""
    rng = np.random.default_rng(0)
    kinds = [CLICKED, LIKED, HIDDEN, DWELT, SKIPPED, FOLLOWED]
    for _ in range(400):
        deeds = [
            deed(int(rng.integers(6)), int(rng.choice(kinds)), int(rng.integers(-20, 300)), 5)
            for _ in range(int(rng.integers(1, 8)))
        ]
        next_at = int(rng.choice([0, rng.integers(1, 300)]))
        rules = Rules(int(rng.integers(1, 60)), int(rng.integers(0, 3)))
        last = ended(deeds, 6, Span(0, WAIT, next_at), rules)
        for now in range(0, 360, 7):
            so_far = [d for d in deeds if d.at < now]
            before = ended(so_far, 6, Span(0, WAIT, next_at if next_at < now else 0), rules)
            for p in range(6):
                if min(before.closes[p], last.closes[p]) <= now:
                    assert before.closes[p] == last.closes[p]
                    assert before.outcomes[p] == last.outcomes[p]
