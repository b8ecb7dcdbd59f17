"""The lists of the DPP are those of determinants, and of the recursion in the paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slates import candidates, shown
from strategies import unit_vectors

from headrace.serving.rerank.dpp import OWN, Dpp


def kernel(vectors: Any, relevance: Any, strength: float) -> Any:
    """Return L: quality times similarity times quality, float64."""
    vectors = np.asarray(vectors, np.float64)
    similarity = (1 - OWN) * (vectors @ vectors.T)
    np.fill_diagonal(similarity, 1)
    quality = np.exp((1 - strength) / (2 * strength) * np.asarray(relevance))
    return quality[:, None] * similarity * quality


def by_determinants(matrix: Any, n: int) -> list[int]:
    """Return the list that adds, at each step, the item with which the determinant is largest."""
    chosen: list[int] = []
    for _ in range(n):
        left = [i for i in range(len(matrix)) if i not in chosen]
        chosen.append(
            max(left, key=lambda i: np.linalg.slogdet(matrix[np.ix_([*chosen, i], [*chosen, i])])[1])
        )
    return chosen


def by_cholesky(matrix: Any, n: int) -> list[int]:
    """Return the list of algorithm 1 in the paper."""
    rows, left = np.zeros((n, len(matrix))), np.diag(matrix).copy()
    chosen: list[int] = []
    for k in range(n):
        best = int(left.argmax())
        chosen.append(best)
        rows[k] = (matrix[best] - rows[:k, best] @ rows[:k]) / math.sqrt(left[best])
        left = left - rows[k] ** 2
        left[chosen] = -np.inf
    return chosen


def scaled(score: Any) -> Any:
    return (score - score.min()) / (score.max() - score.min())


@given(st.integers(0, 10_000), st.integers(2, 9), st.sampled_from([0.05, 0.3, 0.7, 0.95]), st.booleans())
def test_the_lists_of_determinants(seed: int, m: int, strength: float, alike: bool) -> None:
    rng = np.random.default_rng(seed)
    score = rng.standard_normal(m)
    vectors = unit_vectors(m, seed)
    if alike:  # all near one direction
        vectors = vectors * np.float32(0.4) + unit_vectors(1, seed + 1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = by_determinants(kernel(vectors, scaled(score), strength), m)
    choices = candidates(score, vectors=vectors)
    assert shown(choices, m, diversity="dpp", strength=strength) == expected


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_the_lists_of_the_paper(strength: float) -> None:
    # 90 items in a space of 64 dimensions.
    score, vectors = np.random.default_rng(3).random(90), unit_vectors(90, 3)
    expected = by_cholesky(kernel(vectors, scaled(score), strength), 80)
    assert shown(candidates(score, vectors=vectors), 80, diversity="dpp", strength=strength) == expected


def test_what_is_left_of_an_item() -> None:
    # Of an item like that on the list, (1 - (1 - OWN)**2) is left; of an item across, all.
    vectors = np.eye(64, dtype=np.float32)[[0, 1]]
    dpp = Dpp(vectors, 3, 0.5)
    dpp.put(vectors[0])
    np.testing.assert_allclose(np.exp(-dpp.penalty / 0.5), [1 - (1 - OWN) ** 2, 1], rtol=1e-5)
    for _ in range(2):
        dpp.put(vectors[0])
    expected = OWN + (1 - OWN) / (1 + 3 * (1 - OWN) / OWN)
    np.testing.assert_allclose(np.exp(-dpp.penalty / 0.5), [expected, 1], rtol=1e-5)


def test_quotas_choose_what_diversity_chooses_among() -> None:
    """The greedy step is over the allowed items; what is on the list counts whatever put it there."""
    rng = np.random.default_rng(5)
    score, vectors = rng.random(12), unit_vectors(12, 5)
    creator = np.repeat([1, 2, 3], 4)
    matrix = kernel(vectors, scaled(score), 0.5)
    chosen: list[int] = []
    for _ in range(6):
        full = {c for c in (1, 2, 3) if sum(creator[i] == c for i in chosen) >= 2}
        left = [i for i in range(12) if i not in chosen and creator[i] not in full]
        chosen.append(
            max(left, key=lambda i: np.linalg.slogdet(matrix[np.ix_([*chosen, i], [*chosen, i])])[1])
        )
    choices = candidates(score, vectors=vectors, creator=creator)
    assert shown(choices, 6, creator_at_most=2, diversity="dpp", strength=0.5) == chosen


def test_the_same_item_again_and_again() -> None:
    vectors = np.repeat(unit_vectors(1), 30, 0)
    choices = candidates(np.arange(30.0), vectors=vectors)
    assert shown(choices, 30, diversity="dpp", strength=0.5) == list(range(29, -1, -1))


def test_long_lists_stay_finite() -> None:
    dpp = Dpp(unit_vectors(50, 2), 500, 1.0)
    for vector in np.repeat(unit_vectors(5, 2), 100, 0):
        dpp.put(vector)
    assert np.isfinite(dpp.penalty).all()
    assert (dpp.penalty >= -1e-6).all()
