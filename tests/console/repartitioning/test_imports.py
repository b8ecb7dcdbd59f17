"""An import that is not finished stands in the way of more partitions: it could not go on."""

from __future__ import annotations

from pathlib import Path

from headrace.console.imported.jobs import Job, Jobs
from headrace.console.repartitioning.waiting import cut_off
from headrace.streams.settings import Settings


def test_an_import_that_was_cut_off_is_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert cut_off(settings) == []
    jobs = Jobs(settings)
    jobs.write(Job("a", {"1": "old.parquet"}, "", 0, state="done"))
    jobs.write(Job("b", {"2": "new.parquet"}, "", 0, state="reading"))  # nothing of it was sent
    assert cut_off(settings) == []
    jobs.write(Job("c", {"3": "may.csv", "4": "june.csv"}, "", 0, state="sending"))
    assert cut_off(settings) == [
        "an import of may.csv, june.csv runs, or was cut off: run it again, and let it end"
    ]
