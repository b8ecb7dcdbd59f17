"""Figures of an order of given lists, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headrace.serving.prequential.given_figures import NAMES, Comparison, figures_of

NO_CHANCE = np.zeros(4)


def test_figures_of_a_known_order() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.3])  # order: 1 2 3 0
    clicked = np.array([False, False, True, True])
    auc, mrr, ndcg5, ndcg10 = figures_of(scores, clicked, NO_CHANCE)
    assert auc == 0.5  # of 2 x 2 pairs, item 0 loses both and item 1 wins both
    assert mrr == pytest.approx((1 / 2 + 1 / 3) / 2)
    best = 1 + 1 / math.log2(3)
    assert ndcg5 == ndcg10 == pytest.approx((1 / math.log2(3) + 1 / math.log2(4)) / best)


def test_a_perfect_and_a_reversed_order() -> None:
    clicked = np.array([True, False, False, False])
    assert figures_of(np.array([4.0, 3, 2, 1]), clicked, NO_CHANCE) == (1, 1, 1, 1)
    auc, mrr, *_ = figures_of(np.array([1.0, 2, 3, 4]), clicked, NO_CHANCE)
    assert (auc, mrr) == (0, 0.25)


def test_beyond_the_tenth_place_nothing_is_gained() -> None:
    scores, clicked = -np.arange(12.0), np.arange(12) == 10
    auc, mrr, ndcg5, ndcg10 = figures_of(scores, clicked, np.zeros(12))
    assert (ndcg5, ndcg10) == (0, 0)
    assert auc == pytest.approx(1 / 11)
    assert mrr == pytest.approx(1 / 11)


def test_equal_scores_are_half_a_win_and_chance_decides_their_places() -> None:
    clicked = np.array([False, True])
    for chance, first in ((np.array([0.2, 0.1]), 1.0), (np.array([0.1, 0.2]), 0.5)):
        auc, mrr, *_ = figures_of(np.zeros(2), clicked, chance)
        assert (auc, mrr) == (0.5, first)


def test_lists_without_a_choice_are_left_out() -> None:
    found = Comparison()
    for clicked in ([True, True], [False, False]):
        found.add({"a": np.zeros(2)}, np.array(clicked), np.zeros(2))
    assert len(found) == 0
    assert found.mean("a", "auc") == 0


def test_intervals_hold_the_mean_and_shrink_with_more_lists() -> None:
    def of(n: int) -> Comparison:
        found, rng = Comparison(), np.random.default_rng(1)
        for _ in range(n):
            clicked = np.arange(8) == 0
            good = rng.random(8) + 0.3 * clicked
            found.add({"good": good, "chance": rng.random(8)}, clicked, rng.random(8))
        return found

    few, many = of(50), of(800)
    for name in NAMES:
        interval = many.intervals("good")[name]
        assert interval.low < interval.mean < interval.high
        assert interval.mean == pytest.approx(many.mean("good", name), abs=1e-4)
    width = [c.intervals("good")["auc"].high - c.intervals("good")["auc"].low for c in (few, many)]
    assert width[0] / width[1] == pytest.approx(4, rel=0.4)
    values = np.array(many.found["good"])[:, 0]
    assert width[1] == pytest.approx(2 * 1.96 * values.std() / math.sqrt(800), rel=0.15)
    ahead = many.intervals("good", "chance")["auc"]
    assert ahead.low > 0
    assert many.intervals("chance", "good")["auc"].high < 0
    assert many.intervals("good") == many.intervals("good"), "the samples are seeded"
    second = many.intervals("good", start=400)["auc"].mean
    assert second == pytest.approx(values[400:].mean(), abs=1e-4)
