"""Estimates of what a shadow would have earned, against the truth of a simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from headrace.models.learning.counterfactual import (
    MOST_WEIGHT,
    NAMES,
    UNIT,
    agreement,
    doubly_robust,
    logged,
    slot_totals,
    snips,
)

CLUSTERS, ITEMS, EPSILON = 128, 6, 0.3


class World:
    """Slots in which the live policy shows its favourite of six items, or a random one."""

    def __init__(
        self, seed: int, model_error: float = 0.0, spread: float = 1.0, *, exact: bool = False
    ) -> None:
        n = 6000
        rng = np.random.default_rng(seed)
        user = rng.integers(0, 500, n)
        taste = rng.normal(0, 0.5, (500, 1))  # what a user does is alike
        chance = 1 / (1 + np.exp(-(rng.normal(-1.5, spread, (n, ITEMS)) + taste[user])))
        believed = np.clip(chance * 0.6 + rng.normal(0.1, 0.1, chance.shape) + model_error, 0, 1)
        live = believed.argmax(1)
        self.candidate = np.argmax(chance + rng.normal(0, 0.1, chance.shape), 1)
        shown = np.where(rng.random(n) < EPSILON, rng.integers(0, ITEMS, n), live)
        at = np.arange(n)
        propensity = EPSILON / ITEMS + (1 - EPSILON) * (shown == live)
        clicked = rng.random(n) < chance[at, shown]
        self.truth = float(chance[at, self.candidate].mean())
        self.match = shown == self.candidate
        q = chance if exact else believed
        added = slot_totals(self.match, propensity, clicked, q[at, shown], q[at, self.candidate])
        self.totals = np.zeros((len(NAMES), CLUSTERS), np.int64)
        for k in range(len(NAMES)):
            np.add.at(self.totals[k], user % CLUSTERS, added[k])


@pytest.mark.parametrize("estimate", [snips, doubly_robust])
@pytest.mark.parametrize("model_error", [0.0, 0.3])
def test_the_truth_is_in_the_interval(estimate: Any, model_error: float) -> None:
    worlds = [World(seed, model_error=model_error) for seed in range(200)]
    found = [estimate(w.totals) for w in worlds]
    inside = sum(e.low <= w.truth <= e.high for e, w in zip(found, worlds, strict=True))
    assert inside >= 180
    bias = np.mean([e.value - w.truth for e, w in zip(found, worlds, strict=True)])
    assert abs(bias) < 0.004
    assert np.mean([e.high - e.low for e in found]) < 0.1


def test_what_the_live_policy_earned_is_no_estimate_of_it() -> None:
    worlds = [World(seed) for seed in range(50)]
    inside = [logged(w.totals).low <= w.truth <= logged(w.totals).high for w in worlds]
    assert sum(inside) < 5


def test_a_good_model_of_the_clicks_makes_the_interval_narrower() -> None:
    worlds = [World(seed, spread=4.0, exact=True) for seed in range(30)]
    widths = [[e.high - e.low for e in (doubly_robust(w.totals), snips(w.totals))] for w in worlds]
    robust, plain = np.mean(widths, axis=0)
    assert robust < 0.8 * plain


def test_agreement_is_the_share_of_equal_slots() -> None:
    world = World(1)
    assert agreement(world.totals) == pytest.approx(world.match.mean())
    assert math.isnan(agreement(np.zeros((len(NAMES), CLUSTERS), np.int64)))


def test_totals_are_whole_numbers_and_a_rare_slot_does_not_decide_alone() -> None:
    yes, no = np.array([True]), np.array([False])
    one = slot_totals(yes, np.array([1e-9]), yes, np.array([0.25]), np.array([7.0]))[:, 0]
    assert one.tolist() == [1, 1, 1, 100 * UNIT, 100 * UNIT, 1 * UNIT + int(MOST_WEIGHT * 0.75 * UNIT)]
    other = slot_totals(no, np.array([0.5]), yes, np.array([0.25]), np.array([0.125]))[:, 0]
    assert other.tolist() == [1, 0, 1, 0, 0, UNIT // 8]


def test_without_examples_nothing_is_known() -> None:
    for estimate in (snips, doubly_robust, logged):
        assert math.isnan(estimate(np.zeros((len(NAMES), CLUSTERS), np.int64)).value)
