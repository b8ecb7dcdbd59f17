from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from slates import run

scores = st.lists(st.integers(-50, 50).map(float), max_size=40)

unit_interval = st.sampled_from([0.0, 0.02, 0.3, 1.0])


@given(scores, st.integers(0, 60), unit_interval, unit_interval, st.integers(0, 5))
def test_a_list_is_a_list(score: list[float], n: int, lam: float, epsilon: float, seed: int) -> None:
    before = np.array(score)
    slate = run(before, n, lam=lam, epsilon=epsilon, seed=seed)
    m = len(score)
    assert len(slate.chosen) == len(slate.propensity) == len(slate.explored) == min(n, m)
    assert len(set(slate.chosen.tolist())) == len(slate.chosen), "an item is shown twice"
    assert all(0 <= i < m for i in slate.chosen.tolist())
    assert ((slate.propensity > 0) | (epsilon == 0)).all()
    assert (slate.propensity <= 1 + 1e-12).all()
    remaining = m - np.arange(len(slate.chosen))
    np.testing.assert_allclose(
        slate.propensity, epsilon / remaining + np.where(slate.explored, 0, 1 - epsilon)
    )
    np.testing.assert_array_equal(before, np.array(score))
    again = run(score, n, lam=lam, epsilon=epsilon, seed=seed)
    np.testing.assert_array_equal(slate.chosen, again.chosen)


@given(scores, st.integers(0, 60))
def test_without_diversity_and_chance_it_is_sorting(score: list[float], n: int) -> None:
    slate = run(score, n)
    assert slate.chosen.tolist() == np.argsort(-np.array(score), kind="stable")[:n].tolist()
    assert (slate.propensity == 1).all()
    assert not slate.explored.any()


@given(scores, st.integers(0, 60))
def test_items_without_content_are_sorted_too(score: list[float], n: int) -> None:
    vectors = np.zeros((len(score), 8), np.float32)
    assert run(score, n, lam=0.3, vectors=vectors).chosen.tolist() == run(score, n).chosen.tolist()


def test_nothing_to_rank() -> None:
    slate = run([], 10, lam=0.5, epsilon=0.5, vectors=np.zeros((0, 8), np.float32))
    assert slate.chosen.shape == slate.propensity.shape == slate.explored.shape == (0,)
    assert run([1, 2], 0).chosen.shape == (0,)


def test_long_lists() -> None:
    slate = run(np.random.default_rng(0).random(600), 500, lam=0.9, epsilon=0.1)
    assert len(set(slate.chosen.tolist())) == 500
