"""What users hid: a changed value is found."""

from __future__ import annotations

from typing import Any

import pytest
from oracle_history import CATEGORY, Known
from oracle_stories import Story, did, told
from strategies import T0

from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.hidden import HIDDEN, HIDDEN_CREATORS, compare_hidden
from headrace.oracle.compare.users import compare_users
from headrace.oracle.features.users import users_of
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS

ITEMS = [hash64(item) for item in CATEGORY]
CREATORS = [hash64(creator) for creator in CATEGORY.values()]


def some_story() -> Story:
    """user-0 hides three items and likes one of them; user-1 hides one, is forgotten, and hides another.

    Every second event is of the creator.
    """
    story = Story().events(
        did(0, 2, "hide"), did(0, 1, "hide"), did(0, 3, "hide"), did(0, 5, "hide"), did(0, 1, "like"),
        did(0, 6, "click"), did(0, 7, "follow"), did(1, 2, "hide"),
    )  # fmt: skip
    return story.forget("user-1").events(did(1, 3, "hide"), did(1, 6, "hide"))


def test_hidden_items_and_creators_are_what_the_events_say() -> None:
    findings = some_story().compare()
    assert told(findings) == []
    assert (findings.by_kind[HIDDEN], findings.by_kind[HIDDEN_CREATORS]) == (2, 2)
    (row,) = some_story().live.users.table.find([hash64("user-0")])
    data = some_story().live.users.table.data
    assert data["hidden"][row][:4].tolist() == [ITEMS[2], ITEMS[3], ITEMS[5], 0]
    assert data["hidden_creators"][row][:2].tolist() == [CREATORS[2], 0]


@pytest.mark.parametrize(
    ("user", "field", "keys", "features"),
    [
        (0, "hidden", [ITEMS[2], ITEMS[3]], ["hidden items 3"]),
        (0, "hidden", [ITEMS[3], ITEMS[2], ITEMS[5]], ["hidden items 1", "hidden items 2"]),
        (0, "hidden", [ITEMS[2], ITEMS[3], ITEMS[5], ITEMS[1]], ["hidden items 4"]),
        (0, "hidden_creators", [CREATORS[1]], ["hidden creators 1"]),
        (1, "hidden", [ITEMS[2], ITEMS[3]], ["hidden items 1", "hidden items 2"]),
        (1, "hidden", [], ["hidden items 1", "hidden items 2"]),
    ],
)
def test_a_changed_value_is_found(user: int, field: str, keys: list[int], features: list[str]) -> None:
    story = some_story()
    size = story.live.users.table.data[field].shape[1]
    story.set(f"user-{user}", field, (keys + [0] * size)[:size])
    findings = story.compare()
    assert {d.row for d in findings.first} == {f"user user-{user}"}
    assert [d.feature for d in findings.first] == features


def test_what_the_topics_lost_and_who_is_not_known_is_left_out() -> None:
    story, known = some_story(), Known([], [])
    live = story.live.user_values()
    counted = story.stories().after(live.marks)
    rows = compare_users(
        Findings(), users_of(counted.events, counted.shown), live, known.attributes, [T0 + DAY_MS]
    )
    every: list[tuple[dict[str, Any], tuple[int, int]]] = [
        ({"covered_from": 5}, (2, 2)), ({"complete": False}, (0, 2)), ({}, (0, 0))
    ]  # fmt: skip
    for changes, left in every:
        findings = Findings()
        compare_hidden(findings, rows, counted.events, live, known.attributes, **changes)
        assert (findings.left_out[HIDDEN], findings.left_out[HIDDEN_CREATORS]) == left
