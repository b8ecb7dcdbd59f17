"""The young rows of an index, found in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.serving.index import kmeans, young
from headrace.serving.index.hot import HotIndex
from headrace.serving.index.lists import Lists, laid_out
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.recall import recall_of
from headrace.serving.index.young import Young

HOUR = 3_600_000


class World:
    """Rows in lists, the earliest of each list first."""

    def __init__(self, n: int, lists: int, seed: int, most: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        vectors, published = unit_vectors(n, seed), rng.integers(0, 50, n) * HOUR
        centroids = kmeans.train(vectors, lists) if lists > 1 else np.zeros((1, 64), np.float32)
        assigned = kmeans.assign(Quantised.of(vectors), centroids) if lists > 1 else np.zeros(n, np.int32)
        order, layout = laid_out(assigned, centroids, published)
        self.vectors, self.published = vectors[order], published[order]
        self.keys = rng.permutation(n).astype(np.uint64) + np.uint64(1)
        self.lists = Lists(Quantised.of(self.vectors), layout, most)
        self.young = Young(self.lists, self.keys, self.published)

    def expected(self, query: npt.NDArray[np.float32], k: int, oldest: int, gone: list[int]) -> list[int]:
        there = (self.published >= oldest) & ~np.isin(np.arange(len(self.keys)), gone)
        rows = np.flatnonzero(there)
        products = self.vectors[rows] @ query
        return self.keys[rows[np.argsort(-products, kind="stable")[:k]]].tolist()  # type: ignore[no-any-return]


@given(
    n=st.integers(1, 600),
    lists=st.sampled_from([1, 2, 7]),
    hours=st.lists(st.integers(-2, 52), min_size=1, max_size=5),
    seed=st.integers(0, 50),
)
@settings(deadline=None, max_examples=60)
def test_all_young_rows_and_no_others_are_found(n: int, lists: int, hours: list[int], seed: int) -> None:
    world, query = World(n, min(lists, n), seed), unit_vectors(1, seed + 1)[0]
    gone = list(range(0, n, 5))
    world.lists.withdraw(np.array(gone))
    oldest = -HOUR
    for at, hour in enumerate(hours):
        oldest = max(oldest, hour * HOUR)
        (world.young.begin if at == 0 else world.young.advance)(hour * HOUR)
        keys, products = world.young.search(query, n)
        expected = world.expected(query, n, oldest, gone)
        assert sorted(keys.tolist()) == sorted(expected)
        assert keys[:3].tolist() == expected[:3]
        assert (np.diff(products) <= 0).all()
    young = int((world.published >= oldest).sum())
    assert len(world.young) == max(0, young - len(gone))


def test_a_list_that_is_not_up_to_date_yields_nothing_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(young, "_LISTS", 1)
    world, query = World(500, 7, 3), unit_vectors(1, 4)[0]
    world.young.begin(10 * HOUR)
    whole = len(world.young)
    world.young.advance(30 * HOUR)
    found = world.young.search(query, 500)[0].tolist()
    assert sorted(found) == sorted(world.expected(query, 500, 30 * HOUR, []))
    counts = [len(world.young)]
    for step in range(1, 8):
        world.young.advance(30 * HOUR + step * 1000)
        counts.append(len(world.young))
    assert whole > counts[0] > counts[-1]
    assert counts[-1] == int((world.published > 30 * HOUR).sum())
    world.young.advance(20 * HOUR)
    assert world.young.oldest == 30 * HOUR + 7000, "it does not go back"


def test_the_newest_of_equal_items_comes_first() -> None:
    vectors = np.repeat(unit_vectors(1, 5), 40, axis=0)
    published = np.random.default_rng(1).permutation(40) * HOUR
    order, layout = laid_out(np.zeros(40, np.int32), np.zeros((1, 64), np.float32), published)
    keys = published[order].astype(np.uint64)
    found, _ = Young(Lists(Quantised.of(vectors), layout), keys, published[order]).search(vectors[0], 5)
    assert (found // HOUR).tolist() == [39, 38, 37, 36, 35]


def test_most_of_the_nearest_are_found_among_few_young_ones() -> None:
    """Every eighth row is young; a search looks at as many young ones as in an index of their own."""
    rng = np.random.default_rng(2)
    raw = unit_vectors(300, 1)[rng.integers(0, 300, 80_000)] + 0.9 * unit_vectors(80_000, 2)
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    published = rng.integers(0, 8, len(vectors)) * HOUR
    centroids = kmeans.train(vectors[:20_000], 256)
    order, layout = laid_out(kmeans.assign(Quantised.of(vectors), centroids), centroids, published)
    index, keys = Lists(Quantised.of(vectors[order]), layout), order.astype(np.uint64)
    one = Young(index, keys, published[order])
    two = Young(index, keys, published[order])
    one.begin(7 * HOUR)
    two.begin(4 * HOUR)
    for few in (one, two):
        hot = HotIndex(HOUR)
        hot.over(few)
        recalls = [
            recall_of(hot.contents(), query, hot.search(query, 100)[0], 100)
            for query in unit_vectors(300, 1)[:20]
        ]
        assert np.mean(recalls) > 0.93
        hot.close()
    assert len(two) > 20_000 > len(one) > 9000


def test_own_items_and_those_of_the_snapshot_are_one_index() -> None:
    world, query = World(300, 7, 8), unit_vectors(1, 9)[0]
    now, hot = 60 * HOUR, HotIndex(48 * HOUR)
    world.young.begin(hot.oldest(now))
    hot.over(world.young)
    assert len(hot) == len(world.young)
    own = unit_vectors(20, 10)
    keys = np.arange(1000, 1020, dtype=np.uint64)
    hot.put_many(keys, own, np.full(20, 59 * HOUR), now)
    found, products = hot.search(query, 1000)
    expected = world.expected(query, 1000, 12 * HOUR, [])
    assert sorted(found.tolist()) == sorted([*expected, *keys.tolist()])
    assert (np.diff(products) <= 0).all()
    assert hot.search(query, 7)[0].tolist() == found[:7].tolist()
    hot.expire(now + 30 * HOUR)
    assert set(hot.search(query, 1000)[0].tolist()) == {
        *world.expected(query, 1000, 42 * HOUR, []), *keys.tolist()
    }  # fmt: skip
    hot.over(None)
    assert sorted(hot.search(query, 1000)[0].tolist()) == keys.tolist()
    assert recall_of(hot.contents(), query, hot.search(query, 10)[0], 10) == 1
    hot.close()
