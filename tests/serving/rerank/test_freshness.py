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


@pytest.mark.parametrize(("n", "share", "slots"), [(10, 0.05, [5]), (9, 0.05, []), (30, 0.05, [7, 22])])
def test_without_chance_the_budget_is_rounded(n: int, share: float, slots: list[int]) -> None:
    choices = candidates(np.arange(40.0)[::-1], fresh=[False] * 30 + [True] * 10)
    slate = made(choices, n, fresh_share=share, thompson=0)
    assert [j for j, i in enumerate(slate.chosen) if i >= 30] == slots
    assert (slate.propensity == 1).all()


@pytest.mark.parametrize(
    ("n", "always", "by_chance", "chance"),
    [
        (1, [], 0, 0.05),
        (5, [], 2, 0.25),
        (9, [], 4, 0.45),
        (10, [], 5, 0.5),
        (30, [7], 22, 0.5),
        (50, [8, 25], 41, 0.5),
    ],
)
def test_part_of_a_slot_is_one_by_chance(n: int, always: list[int], by_chance: int, chance: float) -> None:
    choices, runs, kept = candidates(np.arange(60.0)[::-1], fresh=[False] * 50 + [True] * 10), 600, 0
    for seed in range(runs):
        slate = made(choices, n, seed=seed, fresh_share=0.05)
        slots = [j for j, i in enumerate(slate.chosen) if i >= 50]
        assert slots in (always, [*always, by_chance])
        kept += by_chance in slots
        alone = slate.propensity[by_chance]  # fresh items are alike; of the others one is the best
        fresh = 10 - len(always)
        assert alone == pytest.approx(chance / fresh if by_chance in slots else 1 - chance, rel=1e-6)
        assert slate.explored[by_chance] == (by_chance in slots)
        assert (slate.reasons[by_chance] == "fresh") == (by_chance in slots)
    assert kept / runs == pytest.approx(chance, abs=4.5 * (chance * (1 - chance) / runs) ** 0.5)


def test_the_same_request_gets_the_same_slots() -> None:
    choices = candidates([5.0, 4, 3, 2], fresh=[False, False, True, True])
    lists = [made(choices, 2, seed=seed, fresh_share=0.25).chosen.tolist() for seed in range(40)]
    assert lists == [made(choices, 2, seed=seed, fresh_share=0.25).chosen.tolist() for seed in range(40)]
    assert {tuple(one) for one in lists} == {(0, 1), (0, 2), (0, 3)}


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
