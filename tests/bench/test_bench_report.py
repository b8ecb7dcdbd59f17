"""The fair views of a report are near the truth of a simulated audience; the other one is above it."""

from __future__ import annotations

import bench_report as bench
import numpy as np


def test_the_fair_views_are_near_the_truth_and_position_flatters_the_other() -> None:
    told = bench.main(1500, trees=40)["auc"]
    for name in ("position_fixed", "inverse_propensity", "explored"):
        view = told[name]
        slack = (view["high"] - view["low"]) / 2
        assert view["low"] - slack < view["truth"] < view["high"] + slack, name
    flattered = told["as_logged"]
    assert flattered["low"] > flattered["truth"] + 0.02


def test_the_simulated_log_is_as_it_says() -> None:
    slots = bench.simulated(200)
    free = np.array([e.explored for e in slots.examples])
    assert 0.12 < free.mean() < 0.18
    clicked = np.array([e.clicked for e in slots.examples])
    assert clicked[slots.truth > 0.3].mean() > 3 * clicked[slots.truth < 0.05].mean()
    assert slots.truth[~free].mean() > 2 * slots.truth[free].mean(), "the lists are not made by chance"
