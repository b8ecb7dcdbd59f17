"""The retrieval benchmarks, tiny: their figures are there, and the truth they compare with is true."""

from __future__ import annotations

from pathlib import Path

import bench_ann
import bench_retrieval as bench
import numpy as np
import pytest
from retrieval.catalogs import BLOCK, Nearest, blocks, queries, recall


def test_the_nearest_are_the_nearest() -> None:
    vectors = next(blocks(3000))
    asked = queries(vectors, 5)
    nearest = Nearest(asked, 300)
    for first in range(0, 3000, 500):
        nearest.add(vectors[first : first + 500], first)
    true = np.argsort(-(asked @ vectors.T), axis=1)[:, :300]
    assert recall(list(true), nearest.items) == 1
    assert recall([row[:270] for row in true], nearest.items) == pytest.approx(0.9)


def test_catalogues_of_any_size_have_the_same_beginning() -> None:
    assert [len(block) for block in blocks(BLOCK + 5)] == [BLOCK, 5]
    np.testing.assert_allclose(np.linalg.norm(next(blocks(100)), axis=1), 1, atol=1e-5)


def test_the_figures_of_a_catalogue(tmp_path: Path) -> None:
    figures = bench.measure(tmp_path, 30_000, 20)
    assert figures["recall_at_300"] > 0.9
    assert figures["machine_mb"] == figures["disk_mb"] + figures["process_mb"]
    assert figures["process_mb"] > 5
    for name in ("rebuild_s", "rebuild_peak_mb", "start_s", "query_p99_ms", "find_500_keys_us"):
        assert figures[name] > 0


def test_the_figures_of_our_index() -> None:
    vectors = next(blocks(25_000))
    asked = queries(vectors, 10)
    nearest = Nearest(asked, bench_ann.K)
    nearest.add(vectors, 0)
    figures = bench_ann.measure(bench_ann.ours, vectors, asked, nearest.items)
    assert figures["recall_at_300"] > 0.9
    assert figures["disk_bytes_an_item"] > 132
