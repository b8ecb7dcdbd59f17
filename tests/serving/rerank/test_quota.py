from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slates import candidates, made, shown

keys = st.lists(st.integers(0, 4), min_size=1, max_size=30)


def test_at_most_two_of_a_creator() -> None:
    choices = candidates([9.0, 8, 7, 6, 5, 4], creator=[1, 1, 1, 1, 2, 2])
    assert shown(choices, 4, creator_at_most=2) == [0, 1, 4, 5]


def test_in_any_window() -> None:
    choices = candidates([9.0, 8, 7, 6, 5, 4, 3], creator=[1, 1, 1, 1, 2, 2, 3])
    assert shown(choices, 7, creator_at_most=1, creator_window=2) == [0, 4, 1, 5, 2, 6, 3]
    assert shown(choices, 5, creator_at_most=1, creator_window=3) == [0, 4, 6, 1, 5]
    assert shown(choices, 6, creator_at_most=2, creator_window=3) == [0, 1, 4, 2, 3, 5]


@pytest.mark.parametrize(
    ("rules", "most"),
    [
        ({"category_share": 0.25}, 2),  # 1.25 of 5 slots, rounded up
        ({"category_share": 0.4}, 2),
        ({"category_share": 0.01}, 1),
        ({"category_at_most": 3}, 3),
        ({"category_at_most": 3, "category_share": 0.4}, 2),
        ({}, 5),
    ],
)
def test_a_category_gets_its_share(rules: dict[str, float], most: int) -> None:
    choices = candidates(np.arange(20.0)[::-1], category=[1] * 15 + [2, 3, 4, 5, 6])
    slate = made(choices, 5, **rules)
    assert slate.chosen.tolist() == [*range(most), *range(15, 20 - most)]
    assert slate.reasons == [""] * 5


def test_items_without_a_category_are_left_alone() -> None:
    choices = candidates([9.0, 8, 7, 6], category=[0, 0, 0, 1])
    assert shown(choices, 3, category_at_most=1) == [0, 1, 2]


def test_a_list_is_never_shorter_than_the_candidates_allow() -> None:
    one_creator = candidates(np.arange(30.0), creator=[5] * 30, category=[3] * 30)
    for rules in (
        {"creator_at_most": 2},
        {"category_at_most": 1},
        {"creator_at_most": 1, "creator_window": 4},
    ):
        assert shown(one_creator, 20, **rules) == list(range(29, 9, -1))


def test_of_two_quotas_the_category_gives_way() -> None:
    # After 0, every other item has its creator or its category. The creator's quota is kept.
    choices = candidates([9.0, 8, 7], creator=[1, 1, 2], category=[1, 2, 1])
    assert shown(choices, 2, creator_at_most=1, category_at_most=1) == [0, 2]


def test_a_quota_reaches_beyond_the_candidates_of_diversity() -> None:
    creator = [1] * 150 + [2, 3]
    vectors = np.eye(64, dtype=np.float32)[np.arange(152) % 64]
    choices = candidates(np.arange(152.0)[::-1], creator=creator, vectors=vectors)
    assert shown(choices, 3, creator_at_most=1, diversity="mmr") == [0, 150, 151]


@given(keys, st.integers(1, 3), st.integers(0, 5), st.integers(1, 30), st.sampled_from([0.0, 0.5]))
def test_a_quota_is_broken_only_where_nothing_else_is_left(
    keys: list[int], at_most: int, window: int, n: int, epsilon: float
) -> None:
    choices = candidates(np.arange(len(keys)), creator=keys)
    chosen = shown(choices, n, creator_at_most=at_most, creator_window=window, epsilon=epsilon)
    assert len(set(chosen)) == min(n, len(keys))
    for slot, item in enumerate(chosen):
        above = chosen[max(0, slot + 1 - window) if window else 0 : slot]
        seen = Counter(keys[i] for i in above)
        left = set(range(len(keys))) - set(chosen[:slot])
        full = {i for i in left if keys[i] and seen[keys[i]] >= at_most}
        assert item not in full or left == full
