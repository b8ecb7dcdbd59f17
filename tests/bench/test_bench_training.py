"""The benchmark of the training log, tiny: its log is a real one, its figures are there."""

from __future__ import annotations

from pathlib import Path

import bench_training as bench
import numpy as np

from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import files_in


def test_the_synthetic_log_is_a_log(tmp_path: Path) -> None:
    table = bench.table(0, 2000, np.random.default_rng(0))
    assert table.schema.equals(example_log.SCHEMA, check_metadata=True)
    assert 0 < sum(table.column("clicked").to_pylist()) < 400
    assert np.isfinite(example_log.features_of(table)).all()


async def test_the_figures(tmp_path: Path) -> None:
    figures = await bench.main(5000, 5, tmp_path / "log")
    assert figures["training"]["rows"] == figures["rows"] == 5000
    assert figures["training"]["peak_rss_mb"] > 50
    assert figures["slots"]["peak_rss_mb"] > 50
    assert figures["merge"]["files_left"] == 2
    assert len(files_in(tmp_path / "log")) == 1, "it is kept"
