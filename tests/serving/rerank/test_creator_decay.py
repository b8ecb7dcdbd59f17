from __future__ import annotations

import numpy as np
from slates import candidates, shown

from headrace.serving.rerank.creator_decay import CreatorDecay


def test_half_and_half_again_down_to_the_floor() -> None:
    rule, factors = CreatorDecay(np.array([7, 7, 7, 7, 7, 8], np.uint64), 6, 0.5, 0.25), np.ones(6)
    seen = []
    for place in range(4):
        rule.put(place, factors)
        seen.append(factors[[4, 5]].tolist())
    assert seen == [[0.5, 1], [0.25, 1], [0.25, 1], [0.25, 1]]


def test_it_says_which_factors_have_changed() -> None:
    rule, factors = CreatorDecay(np.array([7, 9, 7, 0, 0, 7], np.uint64), 5, 0.5, 0.25), np.ones(5)
    assert rule.put(0, factors).tolist() == [0, 2], "of the best five"
    assert rule.put(5, factors).tolist() == [0, 2], "also for an item that is not among them"
    assert len(rule.put(2, factors)) == 0, "the floor is reached"
    assert len(rule.put(3, factors)) == 0, "it has no creator"
    assert factors.tolist() == [0.25, 1, 0.25, 1, 1]


def test_a_worked_list() -> None:
    # 10; then 9 and 8 of the same creator count half: 6 is next, then 4.5; 8 counts a quarter: 3, then 2.
    choices = candidates([10.0, 9, 8, 6, 3], creator=[1, 1, 1, 2, 3])
    assert shown(choices, 5, creator_decay=0.5, creator_floor=0.25) == [0, 3, 1, 4, 2]
    assert shown(choices, 5) == [0, 1, 2, 3, 4]


def test_negative_scores_become_more_negative() -> None:
    # -1; then -2 of the same creator counts as -4, after -3.
    choices = candidates([-1.0, -2, -3], creator=[1, 1, 2])
    assert shown(choices, 3, creator_decay=0.5) == [0, 2, 1]


def test_items_without_a_creator_are_left_alone() -> None:
    choices = candidates([10.0, 9, 8, 6], creator=[0, 0, 0, 2])
    assert shown(choices, 4, creator_decay=0.5) == [0, 1, 2, 3]


def test_with_diversity_relevance_is_what_decays() -> None:
    vectors = np.eye(64, dtype=np.float32)[:5]
    choices = candidates([10.0, 9, 8, 6, 3], creator=[1, 1, 1, 2, 3], vectors=vectors)
    for diversity in ("mmr", "dpp"):  # nothing is similar: the list is that of the decay alone
        assert shown(choices, 5, creator_decay=0.5, diversity=diversity, strength=0.5) == [0, 3, 1, 4, 2]
