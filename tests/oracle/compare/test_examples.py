"""Examples: one for each shown slot, with the outcome that its events say."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from oracle_examples import WAIT, compare, event, examples_of, impression, slots
from strategies import T0

from headrace.oracle.compare.examples import EXAMPLES, LABELS
from headrace.oracle.features.slot_labels import Early
from headrace.streams.settings import MINUTE_MS

replace = msgspec.structs.replace


def features(row: Any) -> list[str]:
    return sorted({d.feature for d in row.first})


def some_slots() -> tuple[Any, list[Any]]:
    """Two lists; of the first, "a" is clicked and read, "b" is liked and hidden."""
    shown = [(impression(), T0), (impression("q", ("a", "c"), T0 + 5), T0 + 9)]
    did = [
        event("click", "a", T0 + 50),
        event("dwell", "a", T0 + 60, dwell_ms=700),
        event("dwell", "a", T0 + 70, dwell_ms=500),
        event("save", "b", T0 + 80),
        event("hide", "b", T0 + 90),
        event("click", "c", T0 + 90, request=""),
        event("click", "c", T0 + 95, user="v", request="q"),
    ]
    events = [(e, e.ts + 5) for e in did]
    first, second = shown[0][0], shown[1][0]
    read = {"clicked": True, "dwell_ms": 700}
    liked = {"liked": True, "hidden": True}
    return slots(shown, events), [*examples_of(first, read, liked), *examples_of(second)]


def test_right_examples_are_what_the_oracle_expects() -> None:
    expected, examples = some_slots()
    findings = compare(expected, examples)
    assert findings.first == []
    assert (findings.by_kind[EXAMPLES], findings.by_kind[LABELS], findings.left_out[LABELS]) == (4, 4, 0)


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ({"clicked": False}, "clicked"),
        ({"dwell_ms": 500}, "dwell_ms"),
        ({"liked": True}, "liked"),
        ({"hidden": True}, "hidden"),
        ({"propensity": 0.1}, "propensity"),
        ({"item_id": "z"}, "item"),
        ({"score": 0.7}, "rest"),
        ({"explored": True}, "rest"),
        ({"surface": "digest"}, "rest"),
        ({"ranker": "v2"}, "rest"),
    ],
)
def test_a_changed_example_is_found(change: dict[str, Any], feature: str) -> None:
    expected, examples = some_slots()
    findings = compare(expected, [replace(examples[0], **change), *examples[1:]])
    assert features(findings) == [feature]
    assert findings.first[0].row == "slot 0 shown to u"


def test_changed_features_are_found() -> None:
    expected, examples = some_slots()
    x = np.frombuffer(examples[2].features, "<f4").copy()
    x[3] += 1
    changed = [*examples[:2], replace(examples[2], features=x.tobytes()), examples[3]]
    assert features(compare(expected, changed)) == ["features"]


def test_one_example_is_missing_another_is_there_twice_and_a_third_is_of_no_slot() -> None:
    expected, examples = some_slots()
    findings = compare(expected, [examples[1], examples[1], *examples[2:], replace(examples[3], position=7)])
    told = [(d.row, d.feature, d.expected, d.found) for d in findings.first]
    assert told == [
        ("slot 0 shown to u", "examples", 1, 0),
        ("slot 1 shown to u", "examples", 1, 2),
        ("slot 7 shown to u", "examples", 0, 1),
    ]


def test_before_the_wait_is_over_no_example_is_missing() -> None:
    expected, _ = some_slots()
    findings = compare(expected, [], read_at=T0 + WAIT)
    assert (findings.differences, findings.by_kind[EXAMPLES], findings.left_out[EXAMPLES]) == (0, 0, 4)


@pytest.mark.parametrize("clicked", [False, True])
def test_a_click_at_the_end_of_the_wait_may_count_or_not(clicked: bool) -> None:
    shown = [(impression(items=("a",)), T0)]
    late = [(event("click", "a", T0 + WAIT - 1000), T0 + WAIT - 900)]
    (example,) = examples_of(shown[0][0], {"clicked": clicked})
    findings = compare(slots(shown, late), [example])
    assert (findings.differences, findings.by_kind[LABELS], findings.left_out[LABELS]) == (0, 0, 1)


def test_a_click_that_came_after_a_later_record_may_count_or_not() -> None:
    """The record before it is dated after the wait: when it was read, the impression was closed."""
    shown = [(impression(items=("a",)), T0)]
    told = [
        (event("skip", "z", T0 + WAIT, request=""), T0 + WAIT),
        (event("click", "a", T0 + 50), T0 + 60),
    ]
    (example,) = examples_of(shown[0][0])
    assert compare(slots(shown, told), [example]).differences == 0
    assert features(compare(slots(shown, told[1:]), [example])) == ["clicked", "label"]


def test_events_of_a_request_id_used_twice_answer_the_newest_list_before_them() -> None:
    """list 1: a b        list 2: b c
    |--- click b --- click a ---|--- click b --- click a"""
    second = T0 + 5 * MINUTE_MS
    shown = [(impression(), T0), (impression(items=("b", "c"), ts=second), second)]
    did = [event("click", "b", T0 + 50), event("like", "b", second + 50), event("hide", "a", second + 60)]
    expected = slots(shown, [(e, e.ts + 1) for e in did], early=Early(WAIT, 1))
    said = expected.sort("ts", "position").select("clicked", "liked", "hidden").rows()
    assert said == [(0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)]


def test_an_event_before_its_list_may_count_or_not() -> None:
    """The clock of the user's device is behind."""
    shown = [(impression(items=("a",)), T0)]
    told = [(event("click", "a", T0 - 1000), T0 + 50)]
    (example,) = examples_of(shown[0][0])
    for clicked in (True, False):
        findings = compare(slots(shown, told), [replace(example, clicked=clicked)])
        assert (findings.differences, findings.left_out[LABELS]) == (0, 1)


def test_a_list_that_is_in_the_topic_twice_may_have_two_examples_a_slot_not_three() -> None:
    shown = [(impression(items=("a",)), T0), (impression(items=("a",)), T0 + 30)]
    expected = slots(shown, [])
    (example,) = examples_of(shown[0][0])
    assert [compare(expected, [example] * n).differences for n in (0, 1, 2, 3)] == [1, 0, 0, 1]


def test_lists_that_are_not_joined_need_no_examples() -> None:
    other = replace(impression(), spec="older")
    short = replace(impression("s"), scores=[1.0])
    assert len(slots([(other, T0), (short, T0), (impression("e", ()), T0)], [])) == 0


def test_a_click_dated_after_the_wait_does_not_count() -> None:
    shown = [(impression(items=("a",)), T0)]
    told = [(event("click", "a", T0 + WAIT - 5), T0 + WAIT)]
    (example,) = examples_of(shown[0][0])
    assert compare(slots(shown, told), [example]).differences == 0
    assert features(compare(slots(shown, told), [replace(example, clicked=True)])) == ["clicked"]


def test_of_a_list_dated_back_events_count_at_most_until_its_example_was_written() -> None:
    """dated T0   end of the wait   click b   written   click a    The list came long after T0."""
    shown = [(impression(), T0)]
    end = T0 + WAIT
    clicks = [(event("click", "b", end + 5000), end + 5000), (event("click", "a", end + 9000), end + 9000)]
    for a, b, wrong in ((0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 0, 1)):
        examples = examples_of(shown[0][0], {"clicked": bool(a)}, {"clicked": bool(b)})
        findings = compare(slots(shown, clicks, examples, written=end + 9000), examples)
        told = [("slot 0 shown to u", feature) for feature in ("clicked", "label")]
        assert [(d.row, d.feature) for d in findings.first] == told * wrong
        assert findings.left_out[LABELS] == 2, "that of b, and whether a was passed"


@pytest.mark.parametrize(("before", "wrong"), [(60_000, 1), (20_000, 0)])
def test_of_a_list_dated_ahead_events_surely_count_until_shortly_before_it_was_written(
    before: int, wrong: int
) -> None:
    """The list is dated two minutes ahead; so its wait was over two minutes before the end."""
    shown = [(impression(items=("a",)), T0)]
    written = T0 + WAIT - 2 * MINUTE_MS
    at = written - before
    (example,) = examples_of(shown[0][0])
    findings = compare(slots(shown, [(event("click", "a", at), at)], [example], written), [example])
    assert features(findings) == ["clicked", "label"] * wrong
    later = [(event("click", "a", written + 1), written + 1)]
    assert compare(slots(shown, later, [example], written), [example]).differences == 0
