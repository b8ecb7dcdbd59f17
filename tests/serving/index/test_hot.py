from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.serving.index import hot as hot_index
from headrace.serving.index.hot import HotIndex

HOUR = 3_600_000
NOW = 1_700_000_000_000


def filled(n: int, seed: int = 0) -> tuple[HotIndex, np.ndarray]:  # type: ignore[type-arg]
    index, vectors = HotIndex(48 * HOUR), unit_vectors(n, seed)
    for i, v in enumerate(vectors):
        assert index.put(i + 1, v, NOW, NOW)
    return index, vectors


def test_an_item_is_found_the_moment_it_is_put() -> None:
    index, _ = filled(500)
    for i, vector in enumerate(unit_vectors(20, 9)):
        index.put(10_000 + i, vector, NOW, NOW)
        keys, products = index.search(vector, 5)
        assert keys[0] == 10_000 + i
        assert products[0] == pytest.approx(1, abs=1e-5)
    assert len(index) == 520
    assert keys.dtype == np.uint64
    assert (np.diff(products) <= 1e-6).all()


@pytest.mark.parametrize("n", [300, 3000])
def test_recall_against_exact_search(n: int) -> None:
    index, vectors = filled(n)
    hits = 0
    for query in unit_vectors(40, 5):
        exact = set((np.argsort(-(vectors @ query))[:50] + 1).tolist())
        got, products = index.search(query, 50)
        assert len(got) == 50
        np.testing.assert_allclose(products, vectors[got.astype(int) - 1] @ query, atol=1e-5)
        hits += len(exact & set(got.tolist()))
    assert hits / (40 * 50) >= 0.95


def test_keys_of_64_bits() -> None:
    index, key = HotIndex(HOUR), 2**64 - 1
    vector = unit_vectors(1)[0]
    index.put(key, vector, NOW, NOW)
    assert index.search(vector, 1)[0].tolist() == [key]
    index.drop(key)
    assert len(index.search(vector, 1)[0]) == 0
    index.put(key, vector, NOW, NOW)
    assert index.search(vector, 1)[0].tolist() == [key]


def test_items_leave_by_their_age() -> None:
    index, vectors = HotIndex(48 * HOUR), unit_vectors(3)
    for i, age in enumerate((47, 30, 0)):
        index.put(i + 1, vectors[i], NOW - age * HOUR, NOW)
    assert index.expire(NOW + HOUR) == 0
    assert index.expire(NOW + HOUR + 1) == 1
    assert sorted(index.search(vectors[0], 9)[0].tolist()) == [2, 3]
    assert index.expire(NOW + 40 * HOUR) == 1
    assert index.expire(NOW + 40 * HOUR) == 0
    assert index.search(vectors[2], 9)[0].tolist() == [3]


def test_what_is_too_old_or_has_no_vector_does_not_enter_and_leaves_if_in() -> None:
    index, vector = HotIndex(48 * HOUR), unit_vectors(1)[0]
    assert not index.put(1, vector, NOW - 49 * HOUR, NOW)
    assert not index.put(1, np.zeros(DIM, np.float32), NOW, NOW)
    assert index.put(1, vector, NOW, NOW)
    assert not index.put(1, np.zeros(DIM, np.float32), NOW, NOW)
    assert len(index) == len(index.search(vector, 1)[0]) == 0
    assert index.put(1, vector, NOW, NOW)
    assert not index.put(1, vector, NOW - 49 * HOUR, NOW)
    assert len(index) == 0


def test_an_item_published_anew_lives_anew() -> None:
    index, (a, b) = HotIndex(48 * HOUR), unit_vectors(2)
    index.put(1, a, NOW - 40 * HOUR, NOW)
    index.put(1, b, NOW, NOW)
    assert len(index) == 1
    assert index.expire(NOW + 20 * HOUR) == 0
    keys, products = index.search(b, 1)
    assert keys.tolist() == [1]
    assert products[0] == pytest.approx(1, abs=1e-5)
    assert index.expire(NOW + 49 * HOUR) == 1


def test_an_item_put_twice_with_an_earlier_date_leaves_earlier() -> None:
    index, vector = HotIndex(48 * HOUR), unit_vectors(1)[0]
    index.put(1, vector, NOW, NOW)
    index.put(1, vector, NOW - 40 * HOUR, NOW)
    assert index.expire(NOW + 20 * HOUR) == 1


def test_a_date_of_zero_is_a_date() -> None:
    index, vector = HotIndex(1000), unit_vectors(1)[0]
    index.put(1, vector, 0, 500)
    assert index.expire(2000) == 1


def test_a_query_keeps_no_hold_on_the_callers_arrays() -> None:
    index, vector = HotIndex(HOUR), unit_vectors(1)[0]
    index.put(1, vector, NOW, NOW)
    query = vector.copy()
    vector[:] = 0
    assert index.search(query, 1)[1][0] == pytest.approx(1, abs=1e-5)


def test_asking_for_more_than_there_is() -> None:
    index, vectors = filled(7)
    assert sorted(index.search(vectors[0], 100)[0].tolist()) == list(range(1, 8))
    assert index.search(vectors[0], 0)[0].shape == (0,)
    assert index.search(np.zeros(DIM, np.float32), 5)[0].shape == (0,)
    assert HotIndex(HOUR).search(vectors[0], 5)[0].shape == (0,)
    big, vectors = filled(1500)
    assert len(big.search(vectors[0], 1500)[0]) == 1500


def test_many_items_with_the_very_same_content() -> None:
    # With a point an item, the graph falls apart into islands: a search finds the wrong third, or raises.
    index, kinds = HotIndex(48 * HOUR), unit_vectors(3)
    for i in range(3000):
        index.put(i + 1, kinds[i % 3], NOW, NOW)
    for k in (10, 200, 1500, 3000):
        keys, products = index.search(kinds[0], k)
        assert len(set(keys.tolist())) == k
        assert products[: min(k, 1000)] == pytest.approx(1, abs=1e-4)
    for key in range(1, 3001, 3):
        index.drop(key)
    assert index.search(kinds[0], 10)[1][0] < 0.9
    index.put(1, kinds[0], NOW, NOW)
    assert index.search(kinds[0], 10)[0][0] == 1


def test_searching_when_most_are_deleted() -> None:
    index, vectors = filled(3000)
    for key in range(1, 1901):
        index.drop(key)
    assert len(index) == 1100
    for query in unit_vectors(10, 4):
        keys, _ = index.search(query, 200)
        assert len(keys) == 200
        assert (keys > 1900).all()
    keys, _ = index.search(vectors[0], 1100)
    assert len(keys) == 1100


def test_a_dropped_item_can_come_back() -> None:
    index, vectors = filled(2000)
    index.drop(5)
    index.drop(5)
    index.drop(999_999)
    assert 5 not in index.search(vectors[4], 10)[0].tolist()
    index.put(5, vectors[4], NOW, NOW)
    assert index.search(vectors[4], 1)[0].tolist() == [5]
    assert len(index) == 2000


def test_grows_past_its_first_capacity() -> None:
    n = hot_index._FIRST_CAPACITY + 300
    index, vectors = filled(n)
    assert len(index) == n
    assert index.search(vectors[-1], 1)[0].tolist() == [n]
    assert index.search(vectors[0], 1)[0].tolist() == [1]


def test_a_rebuild_forgets_the_dead_and_keeps_the_living() -> None:
    index, vectors = HotIndex(48 * HOUR), unit_vectors(3500)
    for i, v in enumerate(vectors):
        index.put(i + 1, v, NOW - (47 * HOUR if i < 1500 else 0), NOW)
    assert index.expire(NOW + 2 * HOUR) == 1500
    assert index._index.get_current_count() == len(index) == 2000
    assert not index._dead
    hits = sum(index.search(vectors[i], 1)[0].tolist() == [i + 1] for i in range(1500, 3500, 50))
    assert hits >= 39
    index.put(1, vectors[0], NOW, NOW)
    assert index.search(vectors[0], 1)[0].tolist() == [1]


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 12), st.integers(0, 5), st.integers(0, 60)),
            st.tuples(st.just("drop"), st.integers(1, 12), st.just(0), st.just(0)),
            st.tuples(st.just("expire"), st.just(0), st.just(0), st.integers(0, 60)),
        ),
        max_size=40,
    ),
    st.sampled_from([0, 1000]),
)
def test_behaves_like_a_dictionary(steps: list[tuple[str, int, int, int]], few: int) -> None:
    """The same for the graph (``few`` = 0) and for comparing all."""
    vectors, was = unit_vectors(6, 2), hot_index._FEW
    index, model, now = HotIndex(48 * HOUR), dict[int, tuple[int, int]](), NOW
    hot_index._FEW = few
    try:
        for what, key, vector, hours in steps:
            if what == "put":
                published = now - hours * HOUR
                if index.put(key, vectors[vector], published, now):
                    model[key] = (vector, published)
                else:
                    assert hours > 48
                    model.pop(key, None)
            elif what == "drop":
                index.drop(key)
                model.pop(key, None)
            else:
                now += hours * HOUR
                gone = index.expire(now)
                alive = {k: v for k, v in model.items() if now - v[1] <= 48 * HOUR}
                assert gone == len(model) - len(alive)
                model = alive
            assert len(index) == len(model)
        for vector in range(6):
            keys, products = index.search(vectors[vector], 12)
            assert len(set(keys.tolist())) == len(keys)
            assert set(keys.tolist()) == set(model)
            for key, product in zip(keys.tolist(), products.tolist(), strict=True):
                assert product == pytest.approx(float(vectors[model[key][0]] @ vectors[vector]), abs=1e-5)
    finally:
        hot_index._FEW = was
