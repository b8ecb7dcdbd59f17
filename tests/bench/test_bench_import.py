"""The benchmark of the import: the command takes its events, and its figures are made of all runs."""

from __future__ import annotations

import time
from pathlib import Path

import bench_import as bench
import pyarrow.parquet as pq

from headrace.console.imported.bad_rows import BadRows
from headrace.console.imported.event_columns import FIELDS, events_of
from headrace.console.imported.mapping import FieldMap
from headrace.console.imported.sources import find, input_file
from headrace.console.imported.tables import read


def test_every_event_is_right(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    pq.write_table(bench.past(5000, 30, now), tmp_path / "past.parquet")
    file = input_file(find([str(tmp_path)])[0])
    rows = 0
    for chunk in read(file, FieldMap().wanted(FIELDS), BadRows()):
        rows += len(events_of(chunk, FieldMap(), BadRows(), made_id="x", newest_ms=now))
    assert rows == 5000


def test_figures_are_medians_without_what_idle_workers_used() -> None:
    runs = [
        {"check_cpu_s": 1.0, "import_cpu_s": 2.0 * k, "workers_cpu_s": 5.0, "idle_cpu_s": 1.0}
        for k in (1, 2, 50)
    ]
    assert bench.figures(runs, 1000) == {
        "check": 1000,
        "import": 250,
        "workers": 250,
        "import_and_count": 125,
    }
