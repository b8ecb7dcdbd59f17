from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from logged_examples import example, write

from headrace.models.learning import examples as example_log


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [example(i, rng) for i in range(20)]
    write(tmp_path, examples[:12])
    write(tmp_path, examples[12:], first=12)
    table = example_log.read(tmp_path)
    assert table.column("item_id").to_pylist() == [e.item_id for e in examples]
    assert np.array_equal(
        example_log.features_of(table), np.stack([np.frombuffer(e.features, "<f4") for e in examples])
    )


def test_records_delivered_twice_are_read_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [example(i, rng) for i in range(20)]
    write(tmp_path, examples)
    write(tmp_path, examples[5:], first=5)
    assert example_log.read(tmp_path).num_rows == 20


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path, [example(i, rng) for i in range(10)])
    (tmp_path / example_log.FOLDER / "p00009-0-1.parquet").write_bytes(b"")
    assert example_log.read(tmp_path).num_rows == 10
    assert "cannot be read" in caplog.text
