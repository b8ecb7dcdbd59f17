"""Profiles, countries, records applied and guard rows: a changed value is found."""

from __future__ import annotations

from typing import Any

import pytest
from oracle_stories import Story, did, told
from strategies import T0

from headrace.oracle.compare.profiles import COUNTRIES, GUARDS, PROFILES
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS

BR, NL = f"{hash64('BR'):016x}", f"{hash64('NL'):016x}"


def some_story() -> Story:
    """user-0 has a profile, user-1 was forgotten and came back, user-2 was forgotten, user-3 did nothing."""
    story = Story().events(*(did(user, item, country="NL") for item in range(1, 5) for user in range(3)))
    story.profile("user-0", country="BR", age=30, preferred_categories=["a", "b"], followed_creators=["c"])
    story.forget("user-1").forget("user-2")
    story.events(did(1, 5), did(1, 6, country="BR"), did(0, 5, country="NL"))
    return story.profile("user-3", followed_creators=[f"creator-{i}" for i in range(20)])


def test_profiles_and_guard_rows_are_what_the_topics_say() -> None:
    findings = some_story().compare()
    assert told(findings) == []
    assert {kind: n for kind, n in findings.by_kind.items() if n} == {GUARDS: 2, PROFILES: 2, COUNTRIES: 4}
    assert findings.left_out.get(COUNTRIES, 0) == 0


@pytest.mark.parametrize(
    ("user", "field", "value", "expected"),
    [
        ("user-0", "has_profile", False, [("has_profile", True, False)]),
        ("user-0", "age", -1, [("age", 30, -1)]),
        ("user-0", "home", hash64("NL"), [("home", BR, NL)]),
        ("user-0", "language", hash64("nl"), [("language", None, None)]),
        ("user-0", "country", hash64("BR"), [("country", NL, BR)]),
        ("user-1", "country", hash64("NL"), [("country", BR, NL)]),
        ("user-0", "preferred", 0, [("preferred 1", None, None), ("preferred 2", None, None)]),
        ("user-0", "profile_offset", -1, [("profile_offset", 0, -1)]),
        ("user-0", "profile_ts", T0 + 7, [("profile_ts", T0, T0 + 7)]),
        ("user-2", "profile_offset", 1, [("profile_offset", 2, 1)]),
        ("user-2", "age", 7, [("age", -1, 7)]),
        ("user-0", "offset", 9, [("offset", 14, 9)]),
        ("user-2", "offset", 10, [("offset", 11, 10)]),
        ("user-0", "shown_offset", 3, [("shown_offset", -1, 3)]),
        ("user-0", "place", 1 << 31 | 7, [("place", None, 7)]),
    ],
)
def test_a_changed_value_is_found(user: str, field: str, value: Any, expected: list[Any]) -> None:
    story = some_story()
    story.set(user, field, value)
    found = told(story.compare())
    assert {row for row, *_ in found} == {f"user {user}"}
    for (_, feature, want, have), (name, wanted, had) in zip(found, expected, strict=True):
        assert feature == name
        assert wanted is None or (want, have) == (wanted, had)


def test_a_profile_that_is_gone_is_found() -> None:
    """As when rows that had only a profile expired within a minute."""
    story = some_story()
    story.drop("user-3")
    found = told(story.compare())
    assert ("user user-3", "has_profile", True, False) in found
    assert ("user user-3", "profile_offset", 3, -1) in found
    assert {row for row, *_ in found} == {"user user-3"}


def test_counting_begins_after_an_event_of_the_user_and_only_where_one_was_forgotten() -> None:
    story = some_story()
    story.set("user-1", "since", 9)  # an event of user-0
    assert ("user user-1", "since", "the offset of a record of the user", 9) in told(story.compare())
    story = some_story()
    story.set("user-0", "since", 3)  # its second event, but it was never forgotten
    found = told(story.compare())
    assert ("user user-0", "since", "-1: never forgotten", 3) in found
    assert ("user user-0", "total click", 3, 5) in found, "the row has more than it says"


def test_views_count_from_an_event_of_the_user_on() -> None:
    story = some_story()
    story.set("user-1", "views_from", 10)  # after an event of user-0
    assert ("user user-1", "views_since", "the offset of a record of the user", 9) in told(story.compare())
    story = some_story()
    story.set("user-0", "views_from", 4)  # after its second event, as in a row of an earlier layout
    assert told(story.compare()) == []


def test_what_a_forgotten_user_did_before_does_not_count() -> None:
    story = some_story()
    story.set("user-1", "since", -1)
    assert ("user user-1", "total click", 6, 2) in told(story.compare())


def test_a_forgotten_user_has_a_guard_row_until_it_expires() -> None:
    story = some_story()
    story.drop("user-2")
    findings = story.compare()
    assert told(findings) == [("user user-2", "guard row", "a row", "no row")]
    findings = story.compare(now=T0 + 91 * DAY_MS)
    assert (told(findings), findings.left_out[GUARDS]) == ([], 1)


def test_a_refused_profile_changes_nothing_but_may_hide_one_after_compaction() -> None:
    story = some_story().refused("user-0")
    assert told(story.compare()) == []
    compacted = story.stories(whole=False, compacted=[0])
    findings = story.compare(compacted)
    assert told(findings) == []
    assert (findings.by_kind[PROFILES], findings.left_out[PROFILES]) == (1, 1)


def test_a_tombstone_that_was_compacted_away_is_not_missed() -> None:
    story = some_story()
    findings = story.compare(story.stories(whole=False, compacted=[1, 2]))
    assert told(findings) == []
    assert findings.left_out[PROFILES] == 2
    assert story.compare(story.stories(compacted=[1, 2])).differences > 0, "the topic is said to be whole"
