from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.serving.index.graph import Graph
from headrace.serving.index.hot import MERGE_MS, HotIndex
from headrace.serving.index.quantised import Quantised

HOUR = 3_600_000
NOW = 1_700_000_000_000


def test_recall_and_products() -> None:
    vectors = unit_vectors(3000, 0)
    graph, hits = Graph(Quantised.of(vectors)), 0
    for query in unit_vectors(40, 5):
        exact = set(np.argsort(-(vectors @ query))[:50].tolist())
        rows, products = graph.search(query, 50)
        assert len(rows) == 50
        assert (np.diff(products) <= 1e-6).all()
        np.testing.assert_allclose(products, vectors[rows] @ query, atol=2e-5)
        hits += len(exact & set(rows.tolist()))
    assert hits / (40 * 50) >= 0.95


def test_rows_with_the_same_vector_and_rows_without_one() -> None:
    kinds = np.concatenate([unit_vectors(3, 1), np.zeros((1, DIM), np.float32)])
    graph = Graph(Quantised.of(kinds[np.arange(400) % 4]))
    rows, products = graph.search(kinds[0], 120)
    assert set(rows[:100].tolist()) == set(range(0, 400, 4))
    assert products[99] == pytest.approx(1, abs=2e-5)
    assert (rows % 4 != 3).all()
    assert len(graph.search(kinds[0], 400)[0]) == 300


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 59), max_size=60), st.integers(1, 70))
def test_withdrawn_rows_are_never_found_and_all_others_can_be(gone: list[int], k: int) -> None:
    graph = Graph(Quantised.of(unit_vectors(60, 2)))
    graph.withdraw(np.array(gone, np.int64))
    assert graph.alive().sum() == 60 - len(set(gone))
    rows, _ = graph.search(unit_vectors(1, 7)[0], k)
    assert len(set(rows.tolist())) == len(rows) == min(k, 60 - len(set(gone)))
    assert not set(rows.tolist()) & set(gone)
    assert graph.withdrawn(np.array(gone, np.int64)).all()


def test_nothing() -> None:
    for vectors in (np.zeros((0, DIM), np.float32), np.zeros((5, DIM), np.float32)):
        graph = Graph(Quantised.of(vectors))
        assert len(graph) == len(vectors)
        assert graph.search(unit_vectors(1)[0], 3)[0].shape == (0,)


def test_the_hot_index_on_a_graph() -> None:
    index, vectors = HotIndex(48 * HOUR, "hnsw"), unit_vectors(600, 3)
    for i, vector in enumerate(vectors):
        index.put(i + 1, vector, NOW - i, NOW)
    index.expire(NOW)
    index.expire(NOW + MERGE_MS)
    index.settle()
    index.put(7, vectors[500], NOW, NOW)  # another vector
    index.drop(8)
    index.put(1000, vectors[9], NOW, NOW)
    assert set(index.search(vectors[9], 2)[0].tolist()) == {10, 1000}
    assert set(index.search(vectors[500], 2)[0].tolist()) == {7, 501}
    assert 8 not in index.search(vectors[7], 600)[0].tolist()
    assert len(index.search(vectors[0], 600)[0]) == len(index) == 600
    assert index.expire(NOW + 48 * HOUR) == 597
    assert set(index.search(vectors[0], 600)[0].tolist()) == {1, 7, 1000}
    index.close()
