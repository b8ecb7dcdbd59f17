"""Rollouts on simulated users: bad candidates are stopped early, good ones arrive, equal ones seldom do."""

from __future__ import annotations

import bench_rollout as bench
import numpy as np

from headrace.models.learning.rollout import Rules
from headrace.streams.settings import DAY_MS

RULES = Rules(max_ms=4 * DAY_MS)


def users(n: int, seed: int, lift: float = 0.0, stay: float = 0.0) -> bench.Users:
    return bench.Users(n, np.random.default_rng(seed), lift, stay)


def test_a_candidate_of_flipped_labels_is_stopped_before_ten_percent() -> None:
    bad = bench.flipped(1, 8000)
    assert "clearly below" in bad["gate"], "it would not even have reached the shadow"
    assert bad["lift"] < -0.5
    runs = [bench.rollout(users(20_000, s, bad["lift"]), RULES) for s in range(10)]
    assert {(r["stage"], r["promoted"]) for r in runs} == {(1, False)}
    assert max(r["examples"] for r in runs) < 2000
    assert "worse in clicks" in runs[0]["why"]


def test_equal_candidates_seldom_become_live() -> None:
    short = Rules(max_ms=2 * DAY_MS)
    runs = [bench.rollout(users(3000, s), short, 50, return_ms=0) for s in range(100)]
    assert bench.told(runs)["promoted"] <= 5


def test_a_candidate_that_is_better_becomes_live() -> None:
    run = bench.rollout(users(300_000, 3, 0.02), RULES)
    assert (run["promoted"], run["stage"]) == (True, 50)


def test_of_three_equal_candidates_seldom_one_becomes_live() -> None:
    rules = Rules(alpha=0.05 / 3, max_ms=DAY_MS)
    same = dict.fromkeys("abc", 0.0)
    runs = [bench.rollout(users(1500, s), rules, 50, return_ms=0, lifts=same) for s in range(40)]
    assert bench.told(runs)["promoted"] <= 2
    assert {r["live"] for r in runs if not r["promoted"]} == {"live"}
    assert bench.told(runs)["median_hours"] >= 3 * 24, "all three are tried"


def test_of_three_candidates_the_better_one_goes_first_and_becomes_live() -> None:
    rules, lifts = Rules(alpha=0.05 / 3, max_ms=4 * DAY_MS), {"a": 0.0, "b": 0.3, "c": 0.0}
    run = bench.rollout(users(20_000, 1), rules, return_ms=0, lifts=lifts, slots=60_000)
    assert (run["live"], run["tried"]) == ("b", 1)


def test_more_clicks_do_not_help_one_whose_users_stay_away() -> None:
    runs = [bench.rollout(users(20_000, s, 0.1, -0.1), RULES) for s in range(5)]
    assert [(r["promoted"], "worse in returning" in r["why"]) for r in runs] == [(False, True)] * 5
    blind = [bench.rollout(users(20_000, s, 0.1, -0.1), RULES, return_ms=0) for s in range(5)]
    assert all(r["promoted"] for r in blind), "without that test it becomes live"


def test_the_figures() -> None:
    figures = bench.main(2, 2000, 3000)
    assert figures["same"]["runs"] == figures["same_at_50_percent"]["runs"] == 2
    assert sum(figures["better_2_percent"]["ended_at"].values()) == 1
    assert figures["flipped_labels"]["promoted"] == 0
    assert figures["more_clicks_fewer_return"]["runs"] == 4
    assert figures["three_same"]["at_50_percent"]["runs"] == 2
    assert figures["one_is_better"]["the_better_one"] in (0, 1)
