from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slates import candidates, shown

from headrace.serving.rerank.boosts import boosts
from headrace.serving.rerank.not_followed import not_followed
from headrace.serving.rerank.rules import OFF, Rules
from headrace.serving.rerank.score_order import all_finite, best_first, lifted_but, lifted_by_boosts


def test_a_factor_above_one_lifts_positive_and_negative_scores() -> None:
    scores = np.array([2.0, -2.0, 0.0])
    np.testing.assert_allclose(lifted_by_boosts(scores, np.full(3, 2.0), 1e-6), [4, -1, 0])
    np.testing.assert_allclose(lifted_by_boosts(scores, np.full(3, 0.5), 1e-6), [1, -4, 0])
    assert lifted_by_boosts(scores, np.ones(3), 1e-6) is scores


def test_boosts() -> None:
    choices = candidates([1.0, 2, -3, -2], boost=[4, 1, 3, 1])
    np.testing.assert_allclose(boosts(choices, choices.score, Rules()), [4, 2, -1, -2])
    assert shown(choices, 4, boosts=True) == [0, 1, 2, 3]
    assert shown(choices, 4, boosts=False) == [1, 0, 3, 2]


@pytest.mark.parametrize("boost", [0.0, -1.0])
def test_a_boost_that_is_not_above_zero_puts_an_item_last(boost: float) -> None:
    choices = candidates([3.0, -1, 2], boost=[boost, boost, 1])
    out = boosts(choices, choices.score, Rules())
    assert np.isfinite(out).all()
    assert shown(choices, 3, boosts=True) == [2, 0, 1]


def test_items_of_other_creators_are_discounted() -> None:
    choices = candidates([1.0, 0.8, -0.3, -0.31], followed=[False, True, False, True])
    rules = Rules(not_followed=0.75)
    np.testing.assert_allclose(not_followed(choices, choices.score, rules), [0.75, 0.8, -0.4, -0.31])
    assert shown(choices, 4, not_followed=0.75) == [1, 0, 3, 2]
    assert shown(choices, 4) == [0, 1, 2, 3]


def test_nobody_is_discounted_when_nobody_is_followed() -> None:
    choices = candidates([1.0, 0.8])
    np.testing.assert_array_equal(not_followed(choices, choices.score, Rules()), choices.score)


def test_the_scores_given_are_left_as_they_are() -> None:
    choices = candidates([1.0, 0.8], followed=[False, True], boost=[2, 1], creator=[1, 1])
    shown(choices, 2, boosts=True, not_followed=0.5, creator_decay=0.5)
    assert choices.score.tolist() == [1.0, 0.8]


@pytest.mark.parametrize(
    "wrong",
    [
        {"diversity": "other"},
        {"strength": 1.1},
        {"epsilon": -0.1},
        {"epsilon": float("nan")},
        {"creator_decay": 0},
        {"category_share": 0},
        {"not_followed": 1.5},
        {"creator_at_most": -1},
        {"prior_clicks": 0},
    ],
)
def test_rules_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rules(**wrong)  # type: ignore[arg-type]


def test_everything_is_off() -> None:
    choices = candidates(
        [3.0, 2, 1, 0],
        vectors=np.eye(64)[[0, 0, 1, 2]],
        creator=[1, 1, 1, 2],
        category=[1, 1, 1, 2],
        followed=[False, False, False, True],
        tail=[False, False, False, True],
        fresh=[False, False, True, True],
        boost=[1, 1, 1, 99],
    )
    assert OFF.strength > 0, "diversity is off by its name"
    assert shown(choices, 4) == [0, 1, 2, 3]


finite = st.lists(st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.0]), max_size=80)


@given(finite)
def test_the_best_comes_first_and_of_equal_ones_the_first(scores: list[float]) -> None:
    column = np.array(scores, np.float64)
    order = best_first(column)
    assert order.dtype == np.int64
    assert order.tolist() == np.argsort(-column, kind="stable").tolist()


def test_the_order_of_many_scores() -> None:
    rng = np.random.default_rng(0)
    for column in (rng.random(5000), rng.integers(-9, 9, 700) / 7, np.full(300, -2.5), rng.random(64)[::-2]):
        assert best_first(column).tolist() == np.argsort(-column, kind="stable").tolist()


@given(finite, st.sampled_from([0.75, 1.0, 3.0]), st.integers(0, 2**32))
def test_the_compiled_factors_are_those_of_arrays(scores: list[float], factor: float, seed: int) -> None:
    column, rng = np.array(scores, np.float64), np.random.default_rng(seed)
    boosts, left = rng.choice([-1.0, 0.0, 1e-9, 0.5, 1.0, 3.0], len(column)), rng.random(len(column)) < 0.3
    factors = np.maximum(boosts, 1e-6)
    expected = np.where(column > 0, column * factors, column / factors)
    np.testing.assert_array_equal(lifted_by_boosts(column, boosts, 1e-6), expected)
    factors = np.where(left, 1.0, factor)
    expected = np.where(column > 0, column * factors, column / factors)
    np.testing.assert_array_equal(lifted_but(column, left, factor), expected)


def test_every_score_has_a_factor() -> None:
    with pytest.raises(ValueError, match="2 scores, 1 boosts"):
        lifted_by_boosts(np.ones(2), np.ones(1), 1e-6)
    with pytest.raises(ValueError, match="2 scores, 3 marks"):
        lifted_but(np.ones(2), np.ones(3, bool), 2.0)


@given(st.lists(st.floats(width=64), max_size=5))
def test_all_are_finite_numbers(scores: list[float]) -> None:
    assert all_finite(np.array(scores, np.float64)) is bool(np.isfinite(scores).all())
