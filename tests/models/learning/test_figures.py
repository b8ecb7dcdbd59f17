"""The figures are those of a direct computation, with weights, ties and strata; intervals hold."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from headrace.models.learning.evaluation import evaluate
from headrace.models.learning.figures import Scored, figures


def scored(n_lists: int = 60, seed: int = 0, *, strata: bool = True, weighted: bool = True) -> Scored:
    rng = np.random.default_rng(seed)
    n = n_lists * 6
    score = rng.integers(0, 9, n) / 10 + 0.05  # with ties
    return Scored(
        score,
        score,
        rng.random(n) < score / 2,
        np.repeat(rng.integers(0, 2**60, n_lists).astype(np.uint64), 6),
        rng.choice([0.5, 1, 4], n) if weighted else np.ones(n),
        np.tile(np.arange(6), n_lists) if strata else np.zeros(n, np.int64),
    )


def auc_of_pairs(of: Scored) -> float:
    right = every = 0.0
    for i, j in product(np.flatnonzero(of.happened), np.flatnonzero(~of.happened)):
        if of.strata[i] == of.strata[j]:
            weight = of.weight[i] * of.weight[j]
            every += weight
            right += weight * (of.score[i] > of.score[j]) + weight / 2 * (of.score[i] == of.score[j])
    return right / every


def value(of: Scored, name: str) -> Any:
    return figures(of, resamples=0)[name]["value"]


@pytest.mark.parametrize("strata", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_is_that_of_all_pairs(strata: bool, weighted: bool) -> None:
    of = scored(strata=strata, weighted=weighted)
    assert value(of, "auc") == pytest.approx(auc_of_pairs(of))


def test_without_weights_ties_and_strata_they_are_the_trainers_figures() -> None:
    of = scored(strata=False, weighted=False)
    smooth = of.score + np.random.default_rng(3).random(len(of.score)) / 1000
    of = Scored(smooth, smooth, of.happened, of.lists, of.weight, of.strata)
    told = evaluate(smooth, of.happened, of.lists)
    for name in ("auc", "list_auc", "ndcg_at_10", "mrr", "log_loss", "calibration"):
        assert value(of, name) == pytest.approx(told[name]), name


def test_weights_count_slots_and_lists() -> None:
    of = scored(weighted=False)
    twice = np.unique(of.lists)[:20]
    double = np.isin(of.lists, twice)
    weighted = Scored(of.score, of.probability, of.happened, of.lists, 1.0 + double, of.strata)
    again = Scored(
        *(np.r_[a, a[double]] for a in (of.score, of.probability, of.happened)),
        np.r_[of.lists, of.lists[double] + np.uint64(1)],
        np.r_[of.weight, of.weight[double]],
        np.r_[of.strata, of.strata[double]],
    )
    for name in ("auc", "log_loss", "calibration"):
        assert value(weighted, name) == pytest.approx(value(again, name)), name


def test_equal_scores_say_nothing_however_a_list_was_ordered() -> None:
    of = scored(3000)
    first = of.strata == 0  # every click is at the top
    flat = Scored(0 * of.score, of.probability, first, of.lists, of.weight, 0 * of.strata)
    assert value(flat, "auc") == 0.5
    expected = np.mean(1 / np.arange(1, 7))
    assert value(flat, "mrr") == pytest.approx(expected, abs=0.02)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(60):
        told = figures(scored(seed=seed, weighted=False), resamples=100)["calibration"]
        assert told["low"] is not None
        assert told["high"] is not None
        inside += told["low"] <= 2.0 <= told["high"]
    assert 50 <= inside <= 60


def test_lists_are_drawn_as_a_whole() -> None:
    # Six equal slots a list tell no more than one: the interval is that of 60 draws, not of 360.
    rng = np.random.default_rng(1)
    click = np.repeat(rng.random(60) < 0.5, 6)
    lists, p = np.repeat(np.arange(60), 6), np.full(360, 0.5)
    told = figures(Scored(p, p, click, lists, np.ones(360), np.zeros(360, np.int64)))["calibration"]
    alone = figures(Scored(*(a[::6] for a in (p, p, click, lists)), np.ones(60), np.zeros(60, np.int64)))
    width = told["high"] - told["low"]  # type: ignore[operator]
    assert width == pytest.approx(alone["calibration"]["high"] - alone["calibration"]["low"])  # type: ignore[operator]


def test_what_is_not_known_is_none() -> None:
    nothing = np.zeros(0)
    of = Scored(nothing, nothing, nothing > 0, nothing.astype(np.int64), nothing, nothing.astype(np.int64))
    assert all(one == {"value": None, "low": None, "high": None} for one in figures(of).values())
    p, at = scored().score[:6], np.arange(6)
    never = Scored(p, p, np.zeros(6, bool), np.zeros(6, np.int64), np.ones(6), at)
    told = figures(never)
    assert told["auc"]["value"] is told["mrr"]["value"] is told["calibration"]["value"] is None
    assert told["log_loss"]["value"] is not None
