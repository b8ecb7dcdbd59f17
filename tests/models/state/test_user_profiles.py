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
    state.profile(UserProfile("u", "BR", 33, "pt", ["news", "sport"], ["c1"]))
    key = hash64("u")
    assert row(state, key)["country"] == hash64("BR")
    assert row(state, key)["age"] == 33
    assert row(state, key)["preferred"][:3].tolist() == [hash64("news"), hash64("sport"), 0]
    assert row(state, key)["followed"][:2].tolist() == [hash64("c1"), 0]
    state.apply(columns([Act(key, 1, "click", T0, country=5)]))
    assert row(state, key)["country"] == hash64("BR"), "where somebody is does not change where they live"
    state.profile(UserProfile("u"))
    assert row(state, key)["age"] == -1
    assert not row(state, key)["preferred"].any()
    state.apply(columns([Act(key, 1, "click", T0, country=5)], [1]))
    assert row(state, key)["country"] == 5


def test_long_profiles_are_cut() -> None:
    state = UserState(new_table(), GAP_MS)
    state.profile(UserProfile("u", preferred_categories=[f"c{i}" for i in range(64)]))
    assert row(state, hash64("u"))["preferred"].all()


def test_somebody_forgotten_stays_forgotten() -> None:
    state, _ = apply(clicks((0, 1), (10, 2)))
    state.shown(np.array([1], np.uint64), np.array([3]), np.array([T0]), np.array([7]))
    state.profile(UserProfile("u", "BR"))
    assert state.forget(1) == state.table.row(1)
    assert state.forget(99) == -1
    assert state.forget(hash64("u")) >= 0
    assert not row(state, hash64("u"))["country"]
    one = row(state)
    blank = UserState(new_table(), GAP_MS)
    blank.table.take([1])
    assert (int(one["offset"]), int(one["shown_offset"])) == (1, 7)
    for name in set(ROW.names or ()) - {"offset", "shown_offset"}:
        np.testing.assert_array_equal(one[name], row(blank)[name], err_msg=name)
    again = state.apply(columns(clicks((0, 1), (10, 2))))
    assert len(again.rows) == 0, "an event from before, delivered again, brings nothing back"
    assert newest(state) == []


def test_a_forgotten_user_is_not_known_and_one_with_a_profile_is() -> None:
    state = UserState(new_table(), 1000)
    rows = np.array([state.profile(UserProfile(name, age=30)) for name in ("u1", "u2", "u3")])
    assert known(state.table.pack(rows)).tolist() == [True, True, True]
    state.forget(hash64("u2"))
    assert known(state.table.pack(rows)).tolist() == [True, False, True]
    assert known([]).tolist() == []
