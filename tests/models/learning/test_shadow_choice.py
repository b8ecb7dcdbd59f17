"""Which candidate leaves the shadow first, and which one goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rollout_counts import RULES

from headrace.models.learning import pointers, shadow_choice
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.counterfactual import NAMES, slot_totals
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.rollout import Decision, decide
from headrace.models.learning.sequential import CLUSTERS, paired

ITEMS, RATES = 5, np.array([0.05, 0.06, 0.08, 0.1, 0.14])


def slots(wants: int, seed: int, *, epsilon: float = 1.0, n: int = 40_000) -> Any:
    """Return the totals of a candidate that always wants one item; the live policy wants item 2."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 2000, n)
    shown = np.where(rng.random(n) < epsilon, rng.integers(0, ITEMS, n), 2)
    propensity = epsilon / ITEMS + (1 - epsilon) * (shown == 2)
    clicked = rng.random(n) < RATES[shown] * rng.gamma(5, 0.2, 2000)[user]
    added = slot_totals(shown == wants, propensity, clicked, np.full(n, 0.08), np.full(n, 0.08))
    totals = np.zeros((len(NAMES), CLUSTERS), np.int64)
    for k, values in enumerate(added):
        np.add.at(totals[k], user % CLUSTERS, values)
    return totals


def three(*since: int) -> Pointers:
    p = pointers.offered(Pointers(), "live", 0, "t")
    for version, now in zip(("one", "two", "three"), since, strict=True):
        p = pointers.offered(p, version, now, "t", most=3)
    return p


def decided(p: Pointers, now: int = 5000, **shadows: Any) -> Decision:
    counts = ArmCounts(p, {})
    counts.shadows |= shadows
    return decide(p, counts, now, RULES)


def test_the_one_that_would_earn_most_goes_further() -> None:
    found = decided(three(0, 0, 0), one=slots(2, 1), two=slots(4, 2), three=slots(3, 3))
    assert (found.action, found.version) == ("promote", "two")
    assert "the best in the shadow: +" in found.reason
    assert "of 3" in found.reason


def test_one_that_is_surely_worse_goes_and_the_others_stay() -> None:
    p = three(0, 0, 0)
    found = decided(p, one=slots(2, 1), two=slots(3, 2), three=slots(0, 3))
    assert (found.action, found.version) == ("roll back", "three")
    assert "worse in the shadow: -" in found.reason
    p = pointers.rolled_back(p, 5000, "t", found.reason, found.version)
    assert p.candidates() == ["one", "two"]
    assert (p.share, p.stage_ts) == (0, 0), "the others go on"


def test_without_evidence_the_newest_goes_further_however_bad_the_estimates_look() -> None:
    found = decided(three(0, 10, 20))
    assert (found.action, found.version, "the newest of 3" in found.reason) == ("promote", "three", True)
    # The live policy shows its own item only: what it believes of the others says nothing.
    never = {"one": slots(0, 1, epsilon=0.0), "two": slots(2, 2, epsilon=0.0)}
    assert decided(three(0, 0, 0), **never).version == "three"
    seldom = {name: slots(k, k, epsilon=0.02) for k, name in enumerate(("one", "two", "three"))}
    counts = ArmCounts(three(0, 0, 0), {})
    counts.shadows |= seldom
    told = shadow_choice.standings(three(0, 0, 0), counts, 0.05)
    assert [one.evidence for one in told] == [False, False, True], "weights are cut: only its own item counts"


def test_one_that_came_just_now_is_not_chosen_yet() -> None:
    p = three(0, 0, 4500)
    assert decided(p, three=slots(4, 1)).version == "two"
    assert decided(p, 5500, three=slots(4, 1)).version == "three"
    assert decided(three(4500, 4500, 4500)).action == "wait"


def test_looking_all_the_time_seldom_drops_one_that_is_as_good() -> None:
    rng, gone = np.random.default_rng(7), 0
    for _ in range(200):
        totals = np.zeros((len(NAMES), CLUSTERS), np.int64)
        for _ in range(20):
            match, clicked = rng.random((2, 3000)) < np.array([[0.5], [0.08]])
            half, rate = np.full(3000, 0.5), np.full(3000, 0.08)
            added = slot_totals(match, half, clicked, rate, rate)
            for k, values in enumerate(added):
                np.add.at(totals[k], rng.integers(0, CLUSTERS, 3000), values)
            if shadow_choice.shadow_difference(totals, 0.05).high < 0:
                gone += 1
                break
    assert gone <= 10


def test_the_paired_difference_is_that_of_the_totals() -> None:
    n = np.full(CLUSTERS, 100)
    live = np.random.default_rng(1).binomial(100, 0.1, CLUSTERS)
    other = live * 1.2 + np.random.default_rng(2).normal(0, 0.5, CLUSTERS)
    found = paired(n, live, other, 0.05)
    assert found.value == pytest.approx(other.sum() / live.sum() - 1)
    assert found.low < 0.2 < found.high
    assert found.high - found.low < 0.1, "what both have in common is no noise"
    few = np.where(np.arange(CLUSTERS) < 20, n, 0)
    assert not np.isfinite(paired(few, live, other, 0.05).low)
