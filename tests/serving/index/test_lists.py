from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.serving.index import kmeans, lists
from headrace.serving.index.layout import Layout
from headrace.serving.index.lists import Lists, count_of_lists, laid_out, most_rows, plan, rows_for
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Directions

F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def clustered(n: int, seed: int = 0) -> F32:
    """Return unit vectors around 40 directions, some with many, as those of categories are."""
    rng = np.random.default_rng(seed)
    raw = unit_vectors(40, 77)[rng.zipf(1.5, n) % 40] + 0.9 * unit_vectors(n, seed)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def indexed(vectors: F32, most: int | None = None) -> tuple[Lists, F32]:
    """Return an index and the vectors in the order of its rows."""
    centroids = plan(vectors, len(vectors))
    order, layout = laid_out(kmeans.assign(Quantised.of(vectors), centroids), centroids)
    return Lists(Quantised.of(vectors[order]), layout, most), vectors[order]


def nearest(vectors: F32, query: F32, k: int) -> list[int]:
    return np.argsort(-(vectors @ query), kind="stable")[:k].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 255, 256, 257, 3000])
def test_few_rows_are_compared_exactly(n: int) -> None:
    index, vectors = indexed(unit_vectors(n, 3))
    for query in unit_vectors(5, 4):
        rows, products = index.search(query, 50)
        assert rows.tolist() == nearest(vectors, query, 50)
        np.testing.assert_allclose(products, vectors[rows] @ query, atol=3e-5)
        assert (rows.dtype, products.dtype) == (np.int64, np.float32)


def test_recall_of_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", 1000)
    index, vectors = indexed(clustered(30_000), most=9000)
    assert index._directions is not None
    queries = [vectors[i : i + 3].mean(axis=0) for i in range(0, 30_000, 1500)]
    found = [len(set(index.search(q, 100)[0].tolist()) & set(nearest(vectors, q, 100))) for q in queries]
    assert np.mean(found) >= 93


def test_all_lists_are_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", 100)
    index, vectors = indexed(clustered(3000), most=3000)
    query = unit_vectors(1, 9)[0]
    assert index.search(query, 300)[0].tolist() == nearest(vectors, query, 300)
    assert sorted(index.search(query, 5000)[0].tolist()) == list(range(3000))


def test_withdrawn_rows_never_come_out_and_take_nobodys_place() -> None:
    index, vectors = indexed(unit_vectors(2000, 5))
    query = unit_vectors(1, 6)[0]
    best = np.array(nearest(vectors, query, 400))
    index.withdraw(best[:300])
    index.withdraw(best[:1])
    assert index.withdrawn(best).tolist() == [True] * 300 + [False] * 100
    assert index.search(query, 100)[0].tolist() == best[300:].tolist()
    index.restore(best[:3])
    assert index.search(query, 4)[0].tolist() == [*best[:3], best[300]]
    index.withdraw(np.arange(2000))
    assert len(index.search(query, 10)[0]) == 0


@pytest.mark.parametrize("n", [40, 300, 2000])
def test_of_equal_rows_the_last_ones_are_found(n: int) -> None:
    """They are the newest; also when many more reach the list than there is room for."""
    index, vectors = indexed(np.repeat(unit_vectors(1, 5), n, axis=0))
    rows, products = index.search(vectors[0], 30)
    assert rows.tolist() == list(range(n - 1, n - 31, -1))
    np.testing.assert_allclose(products, 1, atol=3e-5)


def test_rows_without_a_vector_are_not_found() -> None:
    vectors = unit_vectors(20, 1)
    vectors[::2] = 0
    index, vectors = indexed(vectors)
    rows, _ = index.search(unit_vectors(1, 2)[0], 20)
    assert len(rows) == 10
    assert vectors[rows].any(axis=1).all()


def test_nothing_asked_nothing_found() -> None:
    index, vectors = indexed(unit_vectors(20, 1))
    assert index.search(vectors[0], 0)[0].shape == index.search(vectors[0], -1)[0].shape == (0,)
    assert index.search(np.zeros(DIM, np.float32), 3)[1].shape == (0,)
    assert len(index) == 20


def test_vectors_come_back_in_16_bits() -> None:
    vectors = np.concatenate([unit_vectors(50), np.zeros((1, DIM), np.float32), 1000 * unit_vectors(2)])
    vectors[1] = -1
    vectors[2] = 0
    vectors[2, 5] = 1
    quantised = Quantised.of(vectors)
    got = quantised.vectors(np.arange(53))
    assert (np.abs(got - vectors).max(axis=1) <= 2e-5 * np.abs(vectors).max(axis=1)).all()
    assert (quantised.high.dtype, quantised.low.dtype) == (np.int8, np.int8)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("count", "alike", "lost"), [(300, 0.98, 0.005), (2000, 0.6, 0.1)])
def test_assigned_is_the_nearest_direction(threads: int, count: int, alike: float, lost: float) -> None:
    vectors, directions = clustered(5000, 1), clustered(count, 2)
    found = kmeans.assign(Quantised.of(vectors), directions, threads)
    products = vectors @ directions.T
    loss = products.max(axis=1) - products[np.arange(5000), found]
    assert (loss == 0).mean() > alike
    assert loss.mean() < lost


def test_directions_are_in_the_middle_of_groups() -> None:
    vectors = unit_vectors(8, 1)[np.arange(800) % 8] + 0.02 * unit_vectors(800, 2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = kmeans.train(vectors, 40)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    assert ((vectors @ directions.T).max(axis=1) > 0.999).all()


def test_equal_vectors_are_one_group() -> None:
    directions = kmeans.train(np.repeat(unit_vectors(2, 1), 50, axis=0), 10)
    assert np.isfinite(directions).all()


def test_how_much_is_looked_at() -> None:
    assert [count_of_lists(n) for n in (0, 5, 20_000, 20_001)] == [1, 1, 1, 64]
    assert [most_rows(n) for n in (0, 5, 20_000)] == [0, 5, 20_000]
    assert [most_rows(n) // 1000 for n in (1_000_000, 10_000_000)] == [105, 418]
    counts = [count_of_lists(n) for n in range(0, 20_000_000, 500_000)]
    assert counts == sorted(counts)
    assert counts[-1] == 16_384


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    x = Quantised.of(unit_vectors(20))
    layout = Layout(np.zeros((1, DIM), np.float32), np.array([0, 19]))
    with pytest.raises(ValueError, match="1 lists of 19 rows; there are 20 rows"):
        Lists(x, layout)
    with pytest.raises(ValueError, match="one row of 64 bytes"):
        lists.Rows(x.high[:10], x.low, x.scale, np.zeros(3, np.uint8))
    rows = lists.Rows(*x, np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="rows 5 to 21 of 20"):
        rows.nearest(unit_vectors(1)[0], np.array([5]), np.array([21]), 1, 1, 1)
    with pytest.raises(ValueError, match="a query of 3"):
        rows.nearest(np.ones(3, np.float32), np.array([5]), np.array([9]), 1, 1, 1)
    one, starts = Quantised.of(unit_vectors(1)), np.array([0, 20])
    with pytest.raises(ValueError, match="regions from 0 to 19 of 20 rows"):
        Directions(x.high, x.scale, one.high, one.scale, np.array([0, 19]))
    with pytest.raises(ValueError, match="1 regions, 1 scales, 3 starts"):
        Directions(x.high, x.scale, one.high, one.scale, np.array([0, 5, 20]))
    with pytest.raises(ValueError, match="20 scales"):
        Directions(x.high[:5], x.scale, one.high, one.scale, starts)
    with pytest.raises(ValueError, match="low bytes"):
        Directions(x.high, x.scale, one.high, one.scale, starts).nearest_of(x.high, x.low[:3], 1)


def test_a_search_for_few_looks_at_fewer_rows_and_still_finds_most() -> None:
    index, vectors = indexed(clustered(60_000))
    assert index.most < len(index), "all rows are compared: nothing is shown"
    queries = [vectors[i : i + 3].mean(axis=0) for i in range(0, 60_000, 600)]

    def share(k: int) -> float:
        found = [len(set(index.search(q, k)[0].tolist()) & set(nearest(vectors, q, k))) for q in queries]
        return float(np.mean(found)) / k

    assert min(share(k) for k in (10, 50, 100, 200, 300)) >= 0.95


def test_how_many_rows_a_search_for_few_looks_at() -> None:
    assert [rows_for(100_000, k) for k in (300, 301, 5000)] == [100_000] * 3
    some = [rows_for(100_000, k) for k in range(1, 301)]
    assert some == sorted(some)
    assert 50_000 < rows_for(100_000, 1) == rows_for(100_000, 60) < rows_for(100_000, 100) < 80_000


def plain_order(vectors: Quantised, query: F32) -> tuple[list[int], list[float]]:
    """All rows and their products, the largest first, of equal ones the last: eight sums each, in float32."""
    whole = (vectors.high.astype(np.int32) * 256 + vectors.low).astype(np.float32)
    parts = (whole * query).reshape(-1, 8, 8)
    eight = np.zeros((len(whole), 8), np.float32)
    for j in range(8):
        eight += parts[:, j]
    total = eight[:, 0].copy()
    for i in range(1, 8):
        total += eight[:, i]
    products = total * vectors.scale
    order = sorted(np.flatnonzero(vectors.scale), key=lambda row: (products[row], row), reverse=True)
    return order, products[order].tolist()


@given(n=st.integers(1, 1500), kinds=st.integers(1, 2000), k=st.integers(1, 700), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_the_best_are_those_of_a_plain_sort(n: int, kinds: int, k: int, seed: int) -> None:
    """Many are alike, some are opposite, some at a right angle (0 and -0), some without a vector."""
    rng = np.random.default_rng(seed)
    some = unit_vectors(kinds, seed) * rng.choice([1, 1, -1], kinds).astype(np.float32)[:, None]
    some[rng.random(kinds) < 0.1] = 0
    some[rng.random(kinds) < 0.1, :32] = 0
    vectors, query = Quantised.of(some[rng.integers(0, kinds, n)]), unit_vectors(1, seed + 1)[0]
    query[32:] = 0
    rows = lists.Rows(*vectors, np.zeros(n // 8 + 1, np.uint8))
    found, products = rows.nearest(query, np.zeros(1, np.int64), np.array([n]), k, n, n)
    expected, theirs = plain_order(vectors, query)
    assert found.tolist() == expected[:k]
    assert products.tolist() == theirs[:k]
    wide = min(n, k + k // 2 + 32)
    fewer, _ = rows.nearest(query, np.zeros(1, np.int64), np.array([n]), k, wide, n)
    at = {row: i for i, row in enumerate(expected)}
    assert [at[row] for row in fewer] == sorted(at[row] for row in fewer), "chosen in 8 bits, sorted in 16"


def test_the_last_results_are_kept_until_a_row_goes_or_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    index, vectors = indexed(clustered(30_000))
    made = list[int]()
    search = Lists._search

    def counted(self: Lists, vector: F32, k: int, *more: object) -> object:
        made.append(k)
        return search(self, vector, k, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Lists, "_search", counted)
    first = [index.search(vector, 5)[0].tolist() for vector in vectors[:8]]
    assert [index.search(vector, 5)[0].tolist() for vector in vectors[:8]] == first
    assert made == [5] * 8
    assert len(index.search(vectors[0].copy(), 6)[0]) == 6, "another number is another search"
    index.search(vectors[0], 5)
    assert made == [5] * 8 + [6, 5], "it was the oldest of eight"
    begins = index.starts[1:] - 1
    few = index.search(vectors[0], 5, begins, len(begins))[0].tolist()
    assert set(few) <= set(begins.tolist())
    assert index.search(vectors[0], 5, begins, len(begins))[0].tolist() == few
    assert len(made) == 11
    best = first[0][0]
    index.withdraw(np.array([best]))
    assert best not in index.search(vectors[0], 5)[0]
    index.restore(np.array([best]))
    assert index.search(vectors[0], 5)[0].tolist() == first[0]
