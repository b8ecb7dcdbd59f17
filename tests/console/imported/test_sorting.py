"""Sorting on disk: events in the order of their time, those of the same time in that of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from headrace.console.imported import sorting
from headrace.console.imported.sorting import Runs

SCHEMA = pa.schema([("ts", pa.int64()), ("n", pa.int64())])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_ROWS", 100)
    monkeypatch.setattr(sorting, "BUCKET_ROWS", 70)
    monkeypatch.setattr(sorting, "_STEP", 7)


def fill(runs: Runs, ts: list[int]) -> None:
    n = np.arange(len(ts))
    for at in range(0, len(ts), 33):
        some = slice(at, at + 33)
        runs.add(pa.RecordBatch.from_arrays([pa.array(ts[some]), pa.array(n[some])], schema=SCHEMA))


@pytest.mark.parametrize("most", [5, 50, 10**12])
@pytest.mark.usefixtures("small")
def test_buckets_are_the_sorted_events(tmp_path: Path, most: int) -> None:
    ts = np.random.default_rng(most).integers(most, size=1234).tolist()
    runs = Runs(tmp_path / "runs", SCHEMA)
    fill(runs, ts)
    assert not runs.complete
    runs.finish("told")
    again = Runs(tmp_path / "runs", SCHEMA)
    assert (again.complete, again.told) == (True, "told")
    found, sizes = [], []
    for first, table in again.buckets():
        assert first == len(found)
        found += list(zip(*(table.column(name).to_pylist() for name in ("ts", "n")), strict=True))
        sizes.append(len(table))
    assert found == sorted(zip(ts, range(len(ts)), strict=True))
    if most > 1000:
        assert len(sizes) > 8
        assert max(sizes) < 70 + 7 * 20


@pytest.mark.usefixtures("small")
def test_what_was_cut_off_is_forgotten(tmp_path: Path) -> None:
    runs = Runs(tmp_path, SCHEMA)
    fill(runs, list(range(300)))
    runs = Runs(tmp_path, SCHEMA)
    assert not runs.complete
    runs.begin()
    fill(runs, [3, 1, 2])
    runs.finish("")
    assert [table.column("ts").to_pylist() for _, table in runs.buckets()] == [[1, 2, 3]]


def test_no_events_are_no_buckets(tmp_path: Path) -> None:
    runs = Runs(tmp_path, SCHEMA)
    runs.finish("")
    assert list(runs.buckets()) == []
