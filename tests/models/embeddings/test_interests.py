from __future__ import annotations

import numpy as np
import pytest
from clicking_world import nobody

from headrace.models.embeddings import DIM, unit
from headrace.models.embeddings.groups import groups_of
from headrace.models.embeddings.interests import MOST, interests
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.towers import PLACES, Towers, first_weights
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item

F32 = np.ndarray


def near(centre: F32, n: int, rng: np.random.Generator) -> F32:
    """Return ``n`` unit vectors close to an axis."""
    return np.array([unit((centre + 0.05 * rng.normal(size=DIM)).astype(np.float32)) for _ in range(n)])


def of(*recent: F32) -> F32:
    """Return the recent vectors of one user, newest first, as an array of one row."""
    out = np.zeros((1, PLACES, DIM), np.float32)
    for place, vector in enumerate(recent):
        out[0, place] = vector
    return out


def test_two_clear_groups_are_two_interests() -> None:
    rng, axes = np.random.default_rng(1), np.eye(DIM, dtype=np.float32)
    a, b = near(axes[0], 4, rng), near(axes[1], 3, rng)
    towers, users = Towers(), nobody(1)
    mixed = of(a[0], b[0], a[1], b[1], a[2], b[2], a[3])
    found = interests(towers, users, mixed, ItemContent())
    w = first_weights()
    np.testing.assert_allclose(found.vectors[0, 0], unit(w[[0, 2, 4, 6]] @ a), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.vectors[0, 1], unit(w[[1, 3, 5]] @ b), rtol=1e-4, atol=1e-6)
    assert not found.vectors[0, 2:].any()
    np.testing.assert_allclose(
        found.shares[0],
        [w[[0, 2, 4, 6]].sum() / w[:7].sum(), w[[1, 3, 5]].sum() / w[:7].sum(), 0, 0],
        rtol=1e-5,
    )


def test_one_group_is_the_user_vector() -> None:
    rng, towers, users = np.random.default_rng(2), Towers(), nobody(1)
    recent = of(*near(np.eye(DIM)[0], 5, rng))
    found = interests(towers, users, recent, ItemContent())
    whole = towers.user_vectors(users, recent, ItemContent())
    np.testing.assert_allclose(found.vectors[0, 0], whole[0], rtol=1e-5, atol=1e-7)
    assert found.shares[0].tolist() == [1, 0, 0, 0]


def test_the_stronger_interest_comes_first_and_there_are_not_too_many() -> None:
    axes = np.eye(DIM, dtype=np.float32)
    found = interests(Towers(), nobody(1), of(*axes[[0, 1, 1, 1, 2, 3, 4, 5, 6]]), ItemContent())
    assert found.vectors.shape == (1, MOST, DIM)
    assert int(found.vectors[0, 0].argmax()) == 1
    assert (found.shares[0] > 0).all()
    assert (np.diff(found.shares[0]) <= 0).all()
    few = interests(Towers(), nobody(1), of(*axes[:6]), ItemContent(), most=2)
    assert (few.shares[0] > 0).tolist() == [True, True, False, False]


def test_users_do_not_influence_each_other() -> None:
    rng = np.random.default_rng(3)
    recent = np.concatenate(
        [of(*near(np.eye(DIM)[int(k)], int(n), rng)) for k, n in rng.integers(1, 9, (6, 2))]
    )
    recent[2] = 0
    recent[4, 1] = 0  # an item that is not known any more
    together = interests(Towers(), nobody(6), recent, ItemContent())
    for n in range(6):
        alone = interests(Towers(), nobody(1), recent[n : n + 1], ItemContent())
        np.testing.assert_allclose(together.vectors[n], alone.vectors[0], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(together.shares[n], alone.shares[0])


def test_without_known_clicks_there_is_one_interest_if_anything_is_known() -> None:
    content, users = ItemContent(), nobody(2)
    content.put(Item(item_id="i", published_ts=10**12, category="sport"))
    users.preferred = np.array([[hash64("sport")], [0]], np.uint64)
    found = interests(Towers(), users, np.zeros((2, PLACES, DIM), np.float32), content)
    assert found.shares.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert float(found.vectors[0, 0] @ found.vectors[0, 0]) > 0.99
    assert not found.vectors[1].any()


def test_fewer_places_than_there_may_be_are_enough() -> None:
    recent = of(*np.eye(DIM, dtype=np.float32)[:3])
    short = interests(Towers(), nobody(1), recent[:, :3], ItemContent())
    np.testing.assert_array_equal(
        short.vectors, interests(Towers(), nobody(1), recent, ItemContent()).vectors
    )


def plain_groups(vectors: F32, weights: F32, most: int, like: float) -> list[int]:
    """Return the groups of the vectors of one user, one vector at a time."""
    out, sums = [], list[F32]()
    for vector, weight in zip(vectors, weights, strict=True):
        if not vector.any():
            out.append(-1)
            continue
        near = [float(total @ vector) / float(np.linalg.norm(total)) for total in sums]
        best = int(np.argmax(near)) if near else 0
        if not near or (near[best] < like and len(sums) < most):
            best = len(sums)
            sums.append(np.zeros_like(vector))
        sums[best] = sums[best] + weight * vector
        out.append(best)
    return out


@pytest.mark.parametrize("most", [1, 2, 4, 7])
@pytest.mark.parametrize("like", [0.0, 0.4, 0.8])
def test_groups_are_those_of_a_plain_loop(most: int, like: float) -> None:
    rng = np.random.default_rng(int(10 * like) + most)
    vectors = rng.normal(size=(20, 9, 5)).astype(np.float32)
    vectors[rng.random((20, 9)) < 0.2] = 0
    weights = rng.uniform(0.1, 1, 9).astype(np.float32)
    found = groups_of(vectors, weights, most, like)
    assert found.tolist() == [plain_groups(user, weights, most, like) for user in vectors]


def test_groups_need_a_weight_for_each_place() -> None:
    vectors, weights = np.ones((1, 3, 2), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="weight for each place"):
        groups_of(vectors, weights[:2], 4, 0.4)
    with pytest.raises(ValueError, match="at least one group"):
        groups_of(vectors, weights, 0, 0.4)
