"""Affinities, profiles of the account service, and forgetting a user."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import GAP_MS, T0, Act, columns
from user_stories import apply, clicks, newest, row, taste

from headrace.models.state.users import (
    AFFINITY_HALF_LIFE_MS,
    ROW,
    UserState,
    country_of,
    known,
    new_table,
)
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import UserProfile


def test_a_taste_fades_by_half_in_its_half_life() -> None:
    first = Act(1, 5, "click", T0, category=3, creator=4)
    state, _ = apply([first, Act(1, 6, "like", T0 + AFFINITY_HALF_LIFE_MS, category=8)])
    assert taste(row(state), "cat") == {3: pytest.approx(0.5), 8: pytest.approx(2)}
    assert taste(row(state), "creator") == {4: pytest.approx(1)}


@pytest.mark.parametrize(
    ("act", "weight"),
    [
        (Act(1, 5, "click", T0, category=3), 1),
        (Act(1, 5, "skip", T0, category=3), -0.2),
        (Act(1, 5, "hide", T0, category=3), -2),
        (Act(1, 5, "dwell", T0, 15, category=3), 0.5),
        (Act(1, 5, "dwell", T0, 600, category=3), 2),
    ],
)
def test_what_an_event_says_of_taste(act: Act, weight: float) -> None:
    assert taste(row(apply([act])[0]), "cat") == {3: pytest.approx(weight)}


def test_the_weakest_taste_gives_way() -> None:
    story = [Act(1, 1, "like", T0 + n, category=n + 1) for n in range(12)]
    story += [Act(1, 1, "click", T0 + 100, category=n + 1) for n in range(12) if n != 4]
    state, _ = apply([*story, Act(1, 1, "click", T0 + 200, category=77)])
    assert set(taste(row(state), "cat")) == {*range(1, 13), 77} - {5}


def test_the_profile_of_a_user() -> None:
    state = UserState(new_table(), GAP_MS)
    state.profile(UserProfile("u", "BR", 33, "pt", ["news", "sport"], ["c1"]), 0, T0)
    key = hash64("u")
    assert country(state, key) == hash64("BR")
    assert row(state, key)["has_profile"]
    assert row(state, key)["age"] == 33
    assert row(state, key)["preferred"][:3].tolist() == [hash64("news"), hash64("sport"), 0]
    assert row(state, key)["followed"][:2].tolist() == [hash64("c1"), 0]
    state.apply(columns([Act(key, 1, "click", T0, country=5)]))
    assert country(state, key) == hash64("BR"), "where somebody is does not change where they live"
    state.profile(UserProfile("u"), 1, T0 + 1)
    assert row(state, key)["age"] == -1
    assert not row(state, key)["preferred"].any()
    assert country(state, key) == 5, "without a country in the profile, the last one seen counts"


def country(state: UserState, key: int) -> int:
    return int(country_of(row(state, key).reshape(1))[0])


def test_a_profile_counts_once_and_the_newest_record_wins() -> None:
    state = UserState(new_table(), GAP_MS)
    key = hash64("u")
    assert state.profile(UserProfile("u", "BR"), 7, T0) >= 0
    assert state.forget(key, 8, T0) >= 0
    state.apply(columns([Act(key, 1, "click", T0)], [0]))
    assert state.profile(UserProfile("u", "BR"), 7, T0) == -1, "delivered again after a crash"
    assert state.forget(key, 8, T0) == -1, "the click after it is not lost"
    assert row(state, key)["n_clicks"] == 1
    assert not row(state, key)["has_profile"]


def test_a_profile_makes_its_row_as_new_as_its_record() -> None:
    """Else the row would look 50 years old, and expire within a minute."""
    state = UserState(new_table(), GAP_MS)
    state.profile(UserProfile("u"), 0, T0)
    assert row(state, hash64("u"))["updated"] == T0
    state.profile(UserProfile("v"), 1, -1)
    assert row(state, hash64("v"))["updated"] == 0


def test_long_profiles_are_cut() -> None:
    state = UserState(new_table(), GAP_MS)
    state.profile(UserProfile("u", preferred_categories=[f"c{i}" for i in range(64)]), 0, T0)
    assert row(state, hash64("u"))["preferred"].all()


def test_somebody_forgotten_stays_forgotten() -> None:
    state, _ = apply(clicks((0, 1), (10, 2)))
    state.shown(np.array([1], np.uint64), np.array([3]), np.array([T0]), np.array([7]))
    state.profile(UserProfile("u", "BR"), 3, T0)
    assert state.forget(1, 4, T0 + 5) == state.table.row(1)
    assert state.forget(99, 5, T0) == state.table.row(99), "its first event may be delivered again, too"
    assert state.forget(hash64("u"), 6, T0) >= 0
    assert not country(state, hash64("u"))
    one = row(state)
    blank = UserState(new_table(), GAP_MS)
    blank.table.take([1])
    assert (int(one["offset"]), int(one["shown_offset"])) == (1, 7)
    guard = {"since": 1, "shown_since": 7, "profile_offset": 4, "profile_ts": T0 + 5, "updated": T0 + 5}
    assert {name: int(one[name]) for name in guard} == guard
    for name in set(ROW.names or ()) - {"offset", "shown_offset", *guard}:
        np.testing.assert_array_equal(one[name], row(blank)[name], err_msg=name)
    again = state.apply(columns(clicks((0, 1), (10, 2))))
    assert len(again.rows) == 0, "an event from before, delivered again, brings nothing back"
    assert newest(state) == []


def test_a_forgotten_user_is_not_known_and_one_with_a_profile_is() -> None:
    state = UserState(new_table(), 1000)
    rows = np.array(
        [state.profile(UserProfile(name, age=30), n, T0) for n, name in enumerate(("u1", "u2", "u3"))]
    )
    assert known(state.table.pack(rows)).tolist() == [True, True, True]
    state.forget(hash64("u2"), 3, T0)
    assert known(state.table.pack(rows)).tolist() == [True, False, True]
    assert known([]).tolist() == []
