from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from slates import run
from strategies import unit_vectors

from headrace.serving.rerank.slate import Slate


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
