"""The logged propensities are those with which items are shown, in many runs, whatever the rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from frequencies import Frequencies
from slates import candidates, made
from strategies import unit_vectors

RUNS = 2000
RULES: dict[str, dict[str, Any]] = {
    "epsilon": {"epsilon": 0.3},
    "everything at random": {"epsilon": 1.0},
    "creator quota": {"epsilon": 0.4, "creator_at_most": 1},
    "window": {"epsilon": 0.4, "creator_at_most": 1, "creator_window": 2},
    "long tail": {"epsilon": 0.4, "tail_share": 0.5},
    "fresh": {"fresh_share": 0.4},
    "fresh and epsilon": {"fresh_share": 1.0, "epsilon": 0.3},
    "a fresh slot by chance": {"fresh_share": 0.15},
    "by chance, epsilon and some Thompson": {"fresh_share": 0.2, "epsilon": 0.3, "thompson": 0.5},
    "two fresh slots, one by chance": {"fresh_share": 0.5, "epsilon": 0.2, "tail_share": 0.4},
    "by chance and welcome": {"fresh_share": 0.15, "welcome": 3, "epsilon": 0.1},
    "half of the fresh slots": {"fresh_share": 1.0, "thompson": 0.5},
    "no thompson": {"fresh_share": 0.4, "thompson": 0.0, "epsilon": 0.2},
    "welcome": {"welcome": 2},
    "welcome and fresh": {"welcome": 3, "fresh_share": 0.4, "epsilon": 0.2, "thompson": 0.6},
    "all": {
        "epsilon": 0.2,
        "diversity": "dpp",
        "strength": 0.4,
        "creator_decay": 0.5,
        "creator_at_most": 1,
        "category_share": 0.7,
        "tail_share": 0.4,
        "fresh_share": 0.4,
        "thompson": 0.7,
        "not_followed": 0.75,
        "boosts": True,
        "welcome": 1,
    },
}


def six() -> Any:
    return candidates(
        [0.9, 0.8, 0.75, 0.2, -0.1, -0.3],
        vectors=unit_vectors(6, 1),
        creator=[1, 1, 2, 3, 3, 0],
        category=[1, 2, 1, 1, 2, 0],
        followed=[True, False, True, False, False, False],
        tail=[False, False, True, False, True, True],
        fresh=[False, True, False, True, True, True],
        clicks=[0, 0, 0, 2, 3, 1],
        shown=[0, 0, 0, 30, 30, 60],
        boost=[1, 1, 1.2, 1, 1, 0.9],
        prior=[0.04, 0.08, 0, 0.1, 0.02, 0.05],
        guess=[0.2, 0.15, 0.25, 0.1, 0.12, 0.18],
    )


@pytest.mark.parametrize("name", RULES)
def test_propensities_are_the_frequencies(name: str) -> None:
    """Slot by slot, given the slots above: each frequency, and all of them together (chi-square)."""
    choices, lists = six(), Frequencies()
    for seed in range(RUNS):
        lists.add(made(choices, 3, seed=seed, **RULES[name]))
    lists.check()


@pytest.mark.parametrize("name", RULES)
def test_of_items_with_one_title_one_is_shown_and_the_propensities_are_the_frequencies(name: str) -> None:
    choices, lists = six(), Frequencies()
    choices.title = np.array([7, 0, 7, 8, 8, 0], np.uint64)
    for seed in range(RUNS):
        slate = made(choices, 3, seed=seed, **RULES[name])
        titles = [title for title in choices.title[slate.chosen].tolist() if title]
        assert len(set(titles)) == len(titles)
        lists.add(slate)
    lists.check()


@pytest.mark.parametrize("name", ["epsilon", "creator quota", "fresh and epsilon", "all"])
def test_the_propensities_of_the_first_slot_add_up_to_one(name: str) -> None:
    logged: dict[int, float] = {}
    for seed in range(400):
        slate = made(six(), 1, seed=seed, **RULES[name])
        logged[int(slate.chosen[0])] = float(slate.propensity[0])
    assert sum(logged.values()) == pytest.approx(1, abs=1e-9)


def test_a_random_item_is_one_that_the_rules_allow() -> None:
    for seed in range(300):
        slate = made(six(), 3, seed=seed, epsilon=1.0, creator_at_most=1)
        creators = [c for c in six().creator[slate.chosen].tolist() if c]
        assert len(set(creators)) == len(creators)
        assert slate.propensity[0] == pytest.approx(1 / 6)


def test_why_a_random_item_is_shown() -> None:
    for seed in range(200):
        slate = made(six(), 6, seed=seed, epsilon=0.5)
        assert [r == "explored" for r in slate.reasons] == slate.explored.tolist()
