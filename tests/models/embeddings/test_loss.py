from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headrace.models.embeddings.directions import DIM
from headrace.models.embeddings.loss import Batch, loss_and_gradients
from headrace.models.embeddings.towers import FOLLOWED, N_WEIGHTS, ONE, PREFERRED, Bags

N, ITEMS, FEATURES = 7, 9, 14


def a_batch(seed: int = 1) -> tuple[Batch, np.ndarray, np.ndarray, np.ndarray]:
    """Return a batch in float64 with parts of every sort, its embeddings, weights and map."""
    rng = np.random.default_rng(seed)
    item_bounds = np.concatenate([[0], np.cumsum(rng.integers(1, 4, ITEMS))])
    user_bounds = np.concatenate([[0], np.cumsum(rng.integers(2, 6, N))])
    items = Bags(rng.integers(0, FEATURES, item_bounds[-1]), np.zeros(0, np.int64), item_bounds)
    kinds = rng.choice([0, 1, 2, 19, PREFERRED, FOLLOWED, ONE], user_bounds[-1])
    members = np.where(
        kinds < PREFERRED, rng.integers(0, ITEMS, len(kinds)), ITEMS + rng.integers(0, FEATURES, len(kinds))
    )
    left_out = rng.random((N, N)) < 0.2
    np.fill_diagonal(left_out, False)
    own = rng.normal(size=(3, DIM)) / 8
    batch = Batch(
        items,
        np.array([0, 4, 8]),
        own,
        Bags(members, kinds, user_bounds),
        rng.integers(0, ITEMS, N),
        left_out,
        np.log(rng.uniform(0.001, 0.5, N)),
        0.3,
    )
    weights = np.append(rng.normal(size=N_WEIGHTS), 1.0)
    own_map = np.eye(DIM) + 0.1 * rng.normal(size=(DIM, DIM))
    return batch, rng.normal(size=(FEATURES, DIM)) / 8, weights, own_map


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    batch, *arrays = a_batch(seed)
    found = loss_and_gradients(batch, *arrays)
    rng = np.random.default_rng(99)
    for which, gradient in enumerate((found.embeddings, found.weights, found.own_map)):
        for _ in range(6):
            direction = rng.normal(size=gradient.shape)
            step, losses = 1e-6, []
            for sign in (1, -1):
                moved = [
                    a + sign * step * direction * (i == which) if i == which else a
                    for i, a in enumerate(arrays)
                ]
                losses.append(loss_and_gradients(batch, *moved).loss)
            slope = (losses[0] - losses[1]) / (2 * step)
            assert abs(slope - float((gradient * direction).sum())) < 1e-6 * max(1, abs(slope))


def test_every_single_gradient_of_an_embedding_is_right() -> None:
    batch, embeddings, weights, own_map = a_batch(5)
    found = loss_and_gradients(batch, embeddings, weights, own_map)
    for feature in range(FEATURES):
        for at in (0, DIM - 1):
            losses = []
            for step in (1e-6, -1e-6):
                moved = embeddings.copy()
                moved[feature, at] += step
                losses.append(loss_and_gradients(batch, moved, weights, own_map).loss)
            assert abs((losses[0] - losses[1]) / 2e-6 - found.embeddings[feature, at]) < 1e-7


def test_float32_gives_the_same_to_rounding() -> None:
    batch, *arrays = a_batch()
    exact = loss_and_gradients(batch, *arrays)
    single = replace(batch, own=batch.own.astype(np.float32), log_share=batch.log_share.astype(np.float32))
    rough = loss_and_gradients(single, *(a.astype(np.float32) for a in arrays))
    assert abs(exact.loss - rough.loss) < 1e-5
    assert rough.embeddings.dtype == rough.weights.dtype == rough.own_map.dtype == np.float32
    np.testing.assert_allclose(rough.embeddings, exact.embeddings, atol=1e-5)
    np.testing.assert_allclose(rough.weights, exact.weights, atol=1e-5)


def two_items(log_share: list[float], left_out: list[list[bool]], clicked: list[int]) -> Batch:
    """Return a batch whose users are feature 0 or 1, and whose items are features 2 and 3."""
    n = len(clicked)
    items = Bags(np.array([2, 3]), np.zeros(0, np.int64), np.array([0, 1, 2]))
    users = Bags(2 + np.arange(n) % 2, np.full(n, ONE), np.arange(n + 1))
    shares = np.array(log_share)
    return Batch(
        items,
        np.zeros(0, np.int64),
        np.zeros((0, DIM)),
        users,
        np.array(clicked),
        np.array(left_out),
        shares,
        1.0,
    )


def flat() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings of which users and items have inner product 0."""
    return np.eye(4, DIM), np.append(np.zeros(N_WEIGHTS), 1.0), np.eye(DIM)


def test_the_loss_is_the_softmax_over_the_items_of_the_batch() -> None:
    none = [[False, False], [False, False]]
    assert abs(loss_and_gradients(two_items([0, 0], none, [0, 1]), *flat()).loss - np.log(2)) < 1e-12
    corrected = loss_and_gradients(two_items([np.log(0.75), np.log(0.25)], none, [0, 1]), *flat())
    expected = [np.log((4 / 3 + 4) / (4 / 3)), np.log((4 / 3 + 4) / 4)]
    assert abs(corrected.loss - np.mean(expected)) < 1e-12


def test_an_accidental_hit_is_no_wrong_answer() -> None:
    both = [[False, True], [True, False]]
    found = loss_and_gradients(two_items([0, 0], both, [0, 0]), *flat())
    assert found.loss == 0
    assert not found.embeddings.any()
    counted = loss_and_gradients(two_items([0, 0], [[False] * 2] * 2, [0, 0]), *flat())
    assert abs(counted.loss - np.log(2)) < 1e-12


def test_who_has_no_vector_is_left_out() -> None:
    none = [[False, False], [False, False]]
    batch = two_items([0, 0], none, [0, 1])
    embeddings, weights, own_map = flat()
    embeddings[3] = 0  # the second item, and with it the second user's click
    found = loss_and_gradients(batch, embeddings, weights, own_map)
    assert found.loss == 0
    assert np.isfinite(found.embeddings).all()
    embeddings[:] = 0
    found = loss_and_gradients(batch, embeddings, weights, own_map)
    assert found.loss == 0
    assert not found.embeddings.any()
