"""Examples of candidates that were not shown: with what their user did with the item on no list."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from oracle_examples import WAIT, compare, event, examples_of, impression, slots, with_unshown
from strategies import T0

from headrace.oracle.compare.examples import EXAMPLES, LABELS
from headrace.streams.settings import MINUTE_MS

replace = msgspec.structs.replace

LIST = with_unshown(impression(), "c", "d")
#: Without a request, "c" is clicked and read, and "d" liked; on lists, "d" is clicked, and "c" hidden.
DID = [
    event("click", "c", T0 + 50, request=""),
    event("dwell", "c", T0 + 60, request="", dwell_ms=700),
    event("click", "d", T0 + 60, request="q"),
    event("hide", "c", T0 + 65),
    event("like", "d", T0 + 70, request=""),
    event("click", "a", T0 + 80, request=""),
    event("hide", "c", T0 - 5, request=""),
    event("click", "d", T0 + 90, request="", user="v"),
]
RIGHT = examples_of(LIST, {}, {}, {"clicked": True, "dwell_ms": 700}, {"liked": True})


def expected() -> Any:
    return slots([(LIST, T0)], [(e, e.ts + 5) for e in DID])


def test_they_are_expected_after_the_slots_with_what_happened_to_the_item_on_any_list() -> None:
    findings = compare(expected(), RIGHT)
    assert findings.first == []
    assert (findings.by_kind[EXAMPLES], findings.by_kind[LABELS], findings.left_out[LABELS]) == (4, 4, 0)


@pytest.mark.parametrize(
    ("which", "change", "feature"),
    [
        (2, {"clicked": False}, "clicked"),
        (2, {"dwell_ms": 0}, "dwell_ms"),
        (2, {"hidden": True}, "hidden"),
        (3, {"clicked": True}, "clicked"),
        (0, {"clicked": True}, "clicked"),
        (2, {"propensity": 0.5}, "propensity"),
        (2, {"score": 0.5}, "rest"),
        (2, {"unshown": False}, "rest"),
        (0, {"unshown": True}, "rest"),
        (3, {"item_id": "e"}, "item"),
    ],
)
def test_a_changed_one_is_found(which: int, change: dict[str, Any], feature: str) -> None:
    changed = [replace(e, **change) if k == which else e for k, e in enumerate(RIGHT)]
    found = compare(expected(), changed).first
    assert [(d.row, d.feature) for d in found] == [(f"slot {which} shown to u", feature)]


def test_one_is_missing_one_is_there_twice_and_one_was_not_in_the_sample() -> None:
    findings = compare(expected(), [*RIGHT[:2], RIGHT[3], RIGHT[3], replace(RIGHT[3], position=4)])
    told = [(d.row, d.expected, d.found) for d in findings.first]
    rows = {2: (1, 0), 3: (1, 2), 4: (0, 1)}
    assert told == [(f"slot {k} shown to u", *counts) for k, counts in rows.items()]


@pytest.mark.parametrize("clicked", [False, True])
def test_a_click_at_the_end_of_the_wait_may_count_or_not(clicked: bool) -> None:
    late = [(event("click", "c", T0 + WAIT - 1000, request=""), T0 + WAIT - 900)]
    given = examples_of(LIST, {}, {}, {"clicked": clicked})
    findings = compare(slots([(LIST, T0)], late), given)
    assert (findings.differences, findings.left_out[LABELS]) == (0, 1)


def test_an_event_answers_the_newest_list_if_that_has_left_out_its_item() -> None:
    second = with_unshown(impression("s", ("a", "c"), T0 + 10), "d")
    third = impression("t", ("b", "c"), T0 + 30)
    for at, of_second in ((T0 + 20, True), (T0 + 40, False)):
        clicked = [(event("click", "d", at, request=""), at + 1)]
        told = slots([(LIST, T0), (second, T0 + 11), (third, T0 + 31)], clicked)
        outcome = {"clicked": of_second}
        right = [*examples_of(LIST), *examples_of(second, {}, {}, outcome), *examples_of(third)]
        assert compare(told, right).first == []
        wrong = [*examples_of(LIST, {}, {}, {}, {"clicked": True}), *right[4:]]
        assert [d.feature for d in compare(told, wrong).first] == ["clicked"]


def test_of_two_lists_of_one_time_either_may_be_meant() -> None:
    second = with_unshown(impression("s"), "d")
    told = slots([(LIST, T0), (second, T0)], [(event("click", "d", T0 + 20, request=""), T0 + 21)])
    for one in (True, False):
        first = examples_of(LIST, {}, {}, {}, {"clicked": one})
        given = [*first, *examples_of(second, {}, {}, {"clicked": not one})]
        findings = compare(told, given)
        assert (findings.differences, findings.left_out[LABELS]) == (0, 2)


@pytest.mark.parametrize(
    "change",
    [{"probabilities": [0.5]}, {"probabilities": [0.0, 1.0]}, {"scores": [0.1]}, {"features": b"1234"}],
)
def test_a_list_whose_sample_does_not_fit_is_not_joined(change: dict[str, Any]) -> None:
    assert LIST.unshown is not None
    wrong = replace(LIST, unshown=replace(LIST.unshown, **change))
    assert len(slots([(wrong, T0)], [])) == 0


def test_changed_features_are_found() -> None:
    x = np.frombuffer(RIGHT[3].features, "<f4").copy()
    x[3] += 1
    changed = [*RIGHT[:3], replace(RIGHT[3], features=x.tobytes())]
    assert [d.feature for d in compare(expected(), changed).first] == ["features"]


def test_when_the_newest_list_has_closed_one_written_later_by_a_wrong_clock_may_be_meant() -> None:
    """In the order of the topic::

    s   dated 5 min, closed at 15 min
    r   dated 0 by a clock that is behind, open until 25 min
                                              c is clicked at 20 min, without a request id
    """
    newest = with_unshown(impression("s", ("a", "b"), T0 + 5 * MINUTE_MS), "d")
    shown = [(newest, T0 + 5 * MINUTE_MS), (LIST, T0)]
    at, written = T0 + 20 * MINUTE_MS, T0 + 25 * MINUTE_MS
    told = [(event("click", "c", at, request=""), at)]
    for clicked in (False, True):
        of_r = examples_of(LIST, {}, {}, {"clicked": clicked})
        examples = [*examples_of(newest), *of_r]
        times = [T0 + 15 * MINUTE_MS] * 3 + [written] * 4
        assert compare(slots(shown, told, examples, times), examples).differences == 0
    # Written before it, r had closed first: the click is of s alone.
    of_r = examples_of(LIST, {}, {}, {"clicked": True})
    examples = [*of_r, *examples_of(newest)]
    times = [written] * 7
    findings = compare(slots([shown[1], shown[0]], told, examples, times), examples)
    assert [d.feature for d in findings.first] == ["clicked"]


def test_an_event_dated_ahead_may_be_of_a_list_that_closed_before_a_newer_one_was_written() -> None:
    """The click on c is written after 570 s, dated 620 s. Then r is the newest; it closes after 600 s."""

    def differences(newer_at: int, *, clicked: bool) -> list[str]:
        newer = with_unshown(impression("s", ("a", "b"), newer_at), "d")
        told = [(event("click", "c", T0 + 620_000, request=""), T0 + 570_000)]
        examples = [*examples_of(LIST, {}, {}, {"clicked": clicked}), *examples_of(newer)]
        times = [T0 + WAIT + 1] * 4 + [newer_at + WAIT + 1] * 3
        shown = slots([(LIST, T0), (newer, newer_at)], told, examples, times)
        return [d.feature for d in compare(shown, examples).first]

    assert differences(T0 + 610_000, clicked=True) == []
    assert differences(T0 + 540_000, clicked=True) == ["clicked"]
    assert differences(T0 + 540_000, clicked=False) == []
