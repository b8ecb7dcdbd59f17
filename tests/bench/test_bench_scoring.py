"""Both ways of scoring give the same, and are measured."""

from __future__ import annotations

import bench_scoring as bench


def test_both_ways_score_alike() -> None:
    told = bench.main(50, 8, 3)
    assert (told["rows"], told["objectives"]) == (50, 3)
    assert told["largest_difference"] < 1e-9
    assert told["headrace_cpu_ms"] > 0
    assert told["lightgbm_cpu_ms"] > 0
