from __future__ import annotations

import numpy as np
import pytest
from slates import candidates, made, shown

from headrace.serving.rerank.freshness import Freshness


@pytest.mark.parametrize(
    ("n", "share", "slots"),
    [
        (20, 0.05, [10]),
        (20, 0.1, [5, 15]),
        (10, 0.05, [5]),
        (9, 0.05, []),
        (4, 1, [0, 1, 2, 3]),
        (10, 0.3, [1, 5, 8]),
    ],
)
def test_which_slots_are_kept(n: int, share: float, slots: list[int]) -> None:
    choices = candidates(np.arange(40.0)[::-1], fresh=[False] * 30 + [True] * 10)
    slate = made(choices, n, fresh_share=share)
    assert [j for j, i in enumerate(slate.chosen) if i >= 30] == slots
    assert [j for j, reason in enumerate(slate.reasons) if reason] == slots
    assert set(slate.reasons) <= {"", "fresh"}


def test_without_thompson_the_best_fresh_item_is_shown() -> None:
    choices = candidates([5.0, 4, 3, 2], fresh=[False, False, True, True])
    slate = made(choices, 2, fresh_share=0.5, thompson=0)
    assert slate.chosen.tolist() == [0, 2]
    assert slate.propensity.tolist() == [1, 1]
    assert not slate.explored.any()
    assert slate.reasons == ["", "fresh"]


def test_the_item_with_the_better_record_is_shown_more_often() -> None:
    choices = candidates(
        [5.0, 4, 3, 2], fresh=[False, False, True, True], clicks=[0, 0, 1, 9], shown=[0, 0, 30, 30]
    )
    slates = [made(choices, 2, seed=seed, fresh_share=0.5) for seed in range(300)]
    second = [int(s.chosen[1]) for s in slates]
    assert set(second) == {2, 3}
    assert second.count(3) > 250
    assert [bool(s.explored[1]) for s in slates] == [i == 3 for i in second], "2 has the better score"


def test_more_clicks_than_impressions_are_no_error() -> None:
    choices = candidates([5.0, 4], fresh=[True, True], clicks=[9, 0], shown=[2, 0])
    assert 0 < made(choices, 1, fresh_share=1).propensity[0] <= 1


def test_no_fresh_item_is_left() -> None:
    choices = candidates([5.0, 4, 3, 2], fresh=[False, False, True, False])
    assert shown(choices, 4, fresh_share=1) == [2, 0, 1, 3]


def test_fresh_items_of_a_full_creator_are_not_shown() -> None:
    choices = candidates([5.0, 4, 3], fresh=[False, True, True], creator=[1, 1, 2])
    for seed in range(20):
        assert made(choices, 2, seed=seed, fresh_share=0.5, creator_at_most=1).chosen.tolist() == [0, 2]


def test_a_slot_can_be_for_fresh_items_of_the_long_tail() -> None:
    choices = candidates([5.0, 4, 3], fresh=[False, True, True], tail=[False, False, True])
    for seed in range(20):
        slate = made(choices, 1, seed=seed, fresh_share=1, tail_share=1)
        assert slate.chosen.tolist() == [2]
        assert slate.reasons == ["fresh"]


def test_the_slots_do_not_depend_on_what_is_shown() -> None:
    rule = Freshness(np.ones(3, bool), 3, 1)
    for slot in range(3):
        assert (rule.allowed(slot) is not None) == (slot == 1)
        rule.put(slot, slot)
