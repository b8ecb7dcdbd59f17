from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.serving.rerank.slate import Slate, rerank


def run(
    score: Any, n: int, *, lam: float = 1.0, epsilon: float = 0.0, seed: int = 0, vectors: Any = None
) -> Slate:
    score = np.asarray(score, np.float64)
    vectors = unit_vectors(len(score), 1) if vectors is None else vectors
    return rerank(score, vectors, n, mmr_lambda=lam, epsilon=epsilon, rng=np.random.default_rng(seed))


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


@pytest.mark.parametrize("lam", [1.0, 0.5])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_propensities_are_exact(lam: float, epsilon: float) -> None:
    """Frequencies over many runs: of the first slot, and of the second given the first."""
    score, runs = [0.9, 0.8, 0.75, 0.2, 0.1], 5000
    first, logged = Counter[int](), dict[int, float]()
    second: dict[int, Counter[int]] = {}
    logged_second: dict[tuple[int, int], float] = {}
    vectors = unit_vectors(5, 1)
    rng = np.random.default_rng(11)
    for _ in range(runs):
        slate = rerank(np.array(score), vectors, 2, mmr_lambda=lam, epsilon=epsilon, rng=rng)
        a, b = slate.chosen.tolist()
        first[a] += 1
        second.setdefault(a, Counter())[b] += 1
        assert logged.setdefault(a, slate.propensity[0]) == slate.propensity[0]
        assert logged_second.setdefault((a, b), slate.propensity[1]) == slate.propensity[1]
    for item, p in logged.items():
        assert first[item] / runs == pytest.approx(p, abs=4 * (p * (1 - p) / runs) ** 0.5 + 1e-9)
    if epsilon > 0:
        assert sum(logged.values()) == pytest.approx(1), "a slot's propensities do not add up to 1"
    for a, counts in second.items():
        total = counts.total()
        if total < 200:
            continue
        assert sum(logged_second[a, b] for b in counts) == pytest.approx(1)
        for b, count in counts.items():
            p = logged_second[a, b]
            assert count / total == pytest.approx(p, abs=4.5 * (p * (1 - p) / total) ** 0.5 + 1e-9)


def test_a_slots_propensities_add_up_to_one() -> None:
    # Whatever a slot shows, the others' chances are what is left.
    seen: dict[int, float] = {}
    for seed in range(3000):
        slate = run([3, 2, 1, 0.5], 1, epsilon=0.4, seed=seed)
        seen[int(slate.chosen[0])] = float(slate.propensity[0])
    assert set(seen) == {0, 1, 2, 3}
    assert sum(seen.values()) == pytest.approx(1)


def test_exploring_everything_is_uniform() -> None:
    slate = run(np.arange(10), 10, epsilon=1)
    np.testing.assert_allclose(slate.propensity, 1 / (10 - np.arange(10)))


def test_the_last_candidate_is_certain() -> None:
    assert run([1.0], 5, epsilon=0.5).propensity.tolist() == [1]


def test_nothing_to_rank() -> None:
    slate = run([], 10, lam=0.5, epsilon=0.5, vectors=np.zeros((0, 8), np.float32))
    assert slate.chosen.shape == slate.propensity.shape == slate.explored.shape == (0,)
    assert run([1, 2], 0).chosen.shape == (0,)


def similarity(slate: Slate, vectors: Any) -> float:
    shown = vectors[slate.chosen]
    product = shown @ shown.T
    n = len(shown)
    return float((product.sum() - n) / (n * (n - 1)))


def test_diversity_spreads_the_list() -> None:
    rng = np.random.default_rng(0)
    topics = unit_vectors(5, 2)
    vectors = np.repeat(topics, 20, 0) + 0.02 * rng.standard_normal((100, topics.shape[1])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    score = np.repeat([5.0, 4, 3, 2, 1], 20) + 0.1 * rng.random(100)  # a topic's items come together
    by_lambda = [
        similarity(run(score, 10, lam=lam, vectors=vectors), vectors) for lam in (1.0, 0.7, 0.3, 0.0)
    ]
    assert by_lambda == sorted(by_lambda, reverse=True)
    assert by_lambda[0] > 0.9
    assert by_lambda[2] < 0.7


@pytest.mark.parametrize("shift", [-1000.0, 0.0, 1000.0])
@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_diversity_does_not_depend_on_the_scale_of_scores(shift: float, scale: float) -> None:
    rng = np.random.default_rng(4)
    score = rng.integers(0, 1000, 80).astype(float)
    assert run(score * scale + shift, 20, lam=0.6).chosen.tolist() == run(score, 20, lam=0.6).chosen.tolist()


def test_the_best_item_comes_first_also_with_diversity() -> None:
    for seed in range(20):
        score = np.random.default_rng(seed).standard_normal(50)
        assert run(score, 10, lam=0.5, seed=seed).chosen[0] == score.argmax()


def test_equal_scores() -> None:
    assert run(np.zeros(10), 4).chosen.tolist() == [0, 1, 2, 3]
    assert len(set(run(np.zeros(10), 10, lam=0.5).chosen.tolist())) == 10


def test_long_lists() -> None:
    slate = run(np.random.default_rng(0).random(600), 500, lam=0.9, epsilon=0.1)
    assert len(set(slate.chosen.tolist())) == 500
