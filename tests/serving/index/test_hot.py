from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.serving.index import hot as hot_index
from headrace.serving.index import lists, tail
from headrace.serving.index.hot import MERGE_MS, HotIndex
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.settled import Columns, Engine, Settled

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
        assert products[0] == pytest.approx(1, abs=2e-5)
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
        np.testing.assert_allclose(products, vectors[got.astype(int) - 1] @ query, atol=2e-5)
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
    assert products[0] == pytest.approx(1, abs=2e-5)
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
    assert index.search(query, 1)[1][0] == pytest.approx(1, abs=2e-5)


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
    n = tail._FIRST + 300
    index, vectors = filled(n)
    index.drop(2)
    assert len(index) == n - 1
    assert index.search(vectors[-1], 1)[0].tolist() == [n]
    assert index.search(vectors[0], 1)[0].tolist() == [1]
    assert 2 not in index.search(vectors[1], 5)[0].tolist()


def merged(index: HotIndex) -> HotIndex:
    """Merge the tail and take the result."""
    index._begin_merge()
    index.settle()
    return index


def test_a_merge_forgets_the_dead_and_keeps_the_living() -> None:
    index, vectors = HotIndex(48 * HOUR), unit_vectors(3500)
    for i, v in enumerate(vectors):
        index.put(i + 1, v, NOW - (47 * HOUR if i < 1500 else 0), NOW)
    merged(index)
    assert index.expire(NOW + 2 * HOUR) == 1500
    index.settle()
    assert index._settled is not None
    assert (len(index._settled), index._settled.dead, index._tail.used) == (2000, 0, 0)
    hits = sum(index.search(vectors[i], 1)[0].tolist() == [i + 1] for i in range(1500, 3500, 50))
    assert hits == 40
    index.put(1, vectors[0], NOW, NOW)
    assert index.search(vectors[0], 1)[0].tolist() == [1]


def test_what_changes_while_a_merge_goes_on_is_right_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    class Slow(Settled):
        def __init__(self, items: Columns, engine: Engine = "lists") -> None:
            assert go_on.wait(60)
            super().__init__(items, engine)

    index, vectors = filled(50)
    merged(index)
    monkeypatch.setattr(hot_index, "Settled", Slow)
    index.put(51, vectors[0], NOW, NOW)
    index.put(52, vectors[1], NOW, NOW)
    index._begin_merge()
    index.drop(1)
    index.drop(51)
    index.put(52, vectors[2], NOW, NOW)
    index.put(5, vectors[3], NOW, NOW)
    index.put(53, vectors[9], NOW, NOW)
    index.drop(53)
    index.put(54, vectors[7], NOW, NOW)

    def state() -> list[list[int]]:
        return [sorted(index.search(vectors[i], 60)[0].tolist()) for i in (0, 2)] + [
            index.search(vectors[i], 2)[0].tolist() for i in (2, 3, 7)
        ]

    before = state()
    assert before[0] == [*range(2, 51), 52, 54]
    assert before[2:] == [[52, 3], [5, 4], [54, 8]]
    go_on.set()
    index.settle()
    assert index._settled is not None
    assert (len(index._settled), index._tail.used) == (52, 3)
    assert state() == before


def test_a_merge_begins_after_some_time_and_when_the_tail_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = filled(10)
    index.expire(NOW)
    index.expire(NOW + MERGE_MS - 1)
    index.settle()
    assert index._tail.used == 10
    index.expire(NOW + MERGE_MS)
    index.settle()
    assert index._tail.used == 0
    index.expire(NOW + 3 * MERGE_MS)  # nothing new: nothing to merge
    assert index._merge is None
    monkeypatch.setattr(hot_index, "_LONG", 20)
    for i, vector in enumerate(unit_vectors(20, 5)):
        index.put(100 + i, vector, NOW, NOW)
    index.settle()
    assert index._tail.used == 0
    assert len(index) == 30


def test_a_merge_that_fails_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Settled):
        def __init__(self, items: Columns, engine: Engine = "lists") -> None:
            raise MemoryError("no memory")

    index, vectors = filled(30)
    with monkeypatch.context() as patch:
        patch.setattr(hot_index, "Settled", Broken)
        merged(index)
    assert "could not be merged: no memory" in caplog.text
    assert index.search(vectors[3], 1)[0].tolist() == [4]
    merged(index)
    assert index._tail.used == 0
    assert index.search(vectors[3], 1)[0].tolist() == [4]


def test_the_thread_ends_when_closed() -> None:
    index, _ = filled(3000)
    index._begin_merge()
    (thread,) = index._thread._threads
    index.close()
    assert not thread.is_alive()


def test_items_of_equal_content_come_newest_first_after_a_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", 50)
    index, kinds = HotIndex(48 * HOUR), unit_vectors(3)
    for i in range(300):
        index.put(i + 1, kinds[i % 3], NOW, NOW)
    merged(index)
    index.put(500, kinds[0], NOW, NOW)
    merged(index)
    index.put(400, kinds[0], NOW, NOW)
    assert index.search(kinds[0], 4)[0].tolist() == [400, 500, 298, 295]


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 12), st.integers(0, 5), st.integers(0, 60)),
            st.tuples(st.just("merge"), st.just(0), st.just(0), st.just(0)),
            st.tuples(st.just("begin"), st.just(0), st.just(0), st.just(0)),
            st.tuples(st.just("drop"), st.integers(1, 12), st.just(0), st.just(0)),
            st.tuples(st.just("expire"), st.just(0), st.just(0), st.integers(0, 60)),
        ),
        max_size=40,
    ),
    st.sampled_from([2, 10_000]),
)
def test_behaves_like_a_dictionary(steps: list[tuple[str, int, int, int]], long: int) -> None:
    """The same whenever merges begin and end."""
    vectors, was = unit_vectors(6, 2), hot_index._LONG
    index, model, now = HotIndex(48 * HOUR), dict[int, tuple[int, int]](), NOW
    hot_index._LONG = long
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
            elif what == "merge":
                merged(index)
            elif what == "begin":
                index._begin_merge()
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
                assert product == pytest.approx(float(vectors[model[key][0]] @ vectors[vector]), abs=2e-5)
    finally:
        hot_index._LONG = was
        index.close()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "drop", "expire", "settle"]),
            st.lists(
                st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 60)),
                unique_by=lambda change: change[0],
                max_size=8,
            ),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_many_at_once_are_as_one_after_the_other(steps: list[tuple[str, list[tuple[int, int, int]]]]) -> None:
    kinds = np.vstack([unit_vectors(3), np.zeros((1, DIM), np.float32)])
    together, alone, now = HotIndex(48 * HOUR), HotIndex(48 * HOUR), NOW
    for step, changes in steps:
        keys = np.array([key for key, _, _ in changes], np.uint64)
        vectors = kinds[[kind for _, kind, _ in changes]]
        times = np.array([now - age * HOUR for _, _, age in changes], np.int64)
        if step == "put":
            each = [alone.put(*one, now) for one in zip(keys.tolist(), vectors, times.tolist(), strict=True)]
            assert together.put_many(keys, vectors, times, now).tolist() == each
        elif step == "drop":
            for key in keys.tolist():
                alone.drop(key)
            together.drop_many(keys)
        elif step == "expire":
            now += HOUR * len(changes)
            assert together.expire(now) == alone.expire(now)
        else:
            for index in (together, alone):
                index._begin_merge()
                index.settle()
        assert len(together) == len(alone)
        for kind in kinds[:3]:
            for found, expected in zip(together.search(kind, 20), alone.search(kind, 20), strict=True):
                np.testing.assert_array_equal(found, expected)
        assert sorted(zip(*together.ages(), strict=True)) == sorted(zip(*alone.ages(), strict=True))


def test_an_index_that_takes_the_place_of_another_was_settled_when_it_was_built() -> None:
    (index, vectors), began = filled(30), time.monotonic()
    columns = Columns(np.arange(1, 31, dtype=np.uint64), Quantised.of(vectors))
    index.become(index.another(columns, np.full(30, NOW)))
    assert index.merged_at is not None
    assert began <= index.merged_at <= time.monotonic()
    assert index.search(vectors[3], 1)[0].tolist() == [4]
