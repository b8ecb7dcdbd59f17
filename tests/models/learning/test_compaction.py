"""Merging and expiry of the log's files: no row is lost or doubled, whatever is interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from logged_examples import example, offsets_in, write

from headrace.models.learning import compaction
from headrace.models.learning.compaction import InterruptedMergeError, Upkeep, tend
from headrace.models.learning.log_files import files_in, reading
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import DAY_MS, HOUR_MS

MINUTE_MS = 60_000
NOON = 20_000 * DAY_MS + 12 * HOUR_MS


def some(n: int, start: int = 0, ts: int = 1000) -> list[Example]:
    rng = np.random.default_rng(start)
    examples = [example(start + i, rng) for i in range(n)]
    for one in examples:
        one.ts = ts
    return examples


def fill(folder: Path, times: list[int], partition: int = 0, rows: int = 5, dated: bool = False) -> int:
    """Write a file of ``rows`` rows for each time; return the number of rows."""
    for n, ts in enumerate(times):
        examples = some(rows, n * rows, ts)
        path = write(folder, examples, first=n * rows, partition=partition, ts=ts)
        if dated:
            os.utime(path, (ts / 1000, ts / 1000))
    return rows * len(times)


def run(folder: Path, now: int = NOON, keep_days: int = 0, partitions: tuple[int, ...] = (0,)) -> Upkeep:
    return tend(folder, partitions, keep_ms=keep_days * DAY_MS, now=now)


def times(folder: Path) -> list[int]:
    return [file.ts for file in files_in(folder)]


def test_files_of_an_hour_that_is_over_become_one(tmp_path: Path) -> None:
    two_hours = [NOON - HOUR_MS + n * 10 * MINUTE_MS for n in range(12)]
    n = fill(tmp_path, two_hours)
    done = run(tmp_path, now=two_hours[-1])
    assert (done.sources, done.merged, done.expired) == (6, 1, 0)
    assert times(tmp_path) == [two_hours[0], *two_hours[6:]], "the files of this hour are left alone"
    assert offsets_in(tmp_path) == list(range(n))
    assert run(tmp_path, now=two_hours[-1]) == Upkeep(), "there is nothing left to merge"


def test_files_of_a_day_that_is_over_become_one(tmp_path: Path) -> None:
    day = [NOON - DAY_MS + n * HOUR_MS for n in range(-12, 12)]
    n = fill(tmp_path, [*day, NOON])
    assert run(tmp_path).merged == 1
    assert times(tmp_path) == [day[0], NOON]
    assert offsets_in(tmp_path) == list(range(n))


def test_a_full_file_is_not_merged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = fill(tmp_path, [NOON - DAY_MS + k for k in range(12)] + [NOON])
    size = files_in(tmp_path)[0].path.stat().st_size
    monkeypatch.setattr(compaction, "LARGE_BYTES", 2 * size)
    sizes = []
    for _ in range(8):
        run(tmp_path)
        sizes.append(len(files_in(tmp_path)))
    assert sizes[-1] == sizes[-2] < 6
    assert all(f.path.stat().st_size < 6 * size for f in files_in(tmp_path))
    assert offsets_in(tmp_path) == list(range(n))
    assert run(tmp_path) == Upkeep()


def test_rows_and_metadata_stay_as_they_were(tmp_path: Path) -> None:
    fill(tmp_path, [NOON - DAY_MS, NOON - DAY_MS + 1, NOON])
    before = [pq.read_table(f.path) for f in files_in(tmp_path)][:2]
    run(tmp_path)
    merged = pq.read_table(files_in(tmp_path)[0].path)
    assert merged.to_pylist() == before[0].to_pylist() + before[1].to_pylist()
    assert merged.schema.equals(before[0].schema, check_metadata=True)


def test_a_wrong_clock_of_a_writer_or_of_this_machine_loses_no_row(tmp_path: Path) -> None:
    far = 4_000_000_000_000
    n = fill(tmp_path, [-5, 0, 7, NOON - 2, NOON - 1, NOON, far, far + 1])
    for now in (0, NOON, far * 2):
        run(tmp_path, now=now)
        assert offsets_in(tmp_path) == list(range(n))
    assert len(files_in(tmp_path)) < 8


def test_files_of_other_partitions_are_not_touched(tmp_path: Path) -> None:
    old = [NOON - 9 * DAY_MS, NOON - 9 * DAY_MS + 1, NOON]
    fill(tmp_path, old, partition=0, dated=True)
    fill(tmp_path, old, partition=1, dated=True)
    (tmp_path / "p00001-0-9-9.12345678.tmp").touch()
    run(tmp_path, keep_days=5)
    assert [(f.partition, f.ts) for f in files_in(tmp_path)] == [(0, NOON), *((1, ts) for ts in old)]
    assert (tmp_path / "p00001-0-9-9.12345678.tmp").exists()


def test_files_of_another_feature_list_are_merged_among_themselves(tmp_path: Path) -> None:
    fill(tmp_path, [NOON - DAY_MS + n for n in range(4)])
    for file in files_in(tmp_path)[:2]:
        other = pq.read_table(file.path).drop_columns(["features"])
        pq.write_table(other.replace_schema_metadata({"spec": "older"}), file.path)
    fill_last = files_in(tmp_path)[-1]
    assert fill_last.ts < NOON
    write(tmp_path, some(5, 20), first=20, ts=NOON)
    assert run(tmp_path).merged == 2
    assert [pq.read_metadata(f.path).num_rows for f in files_in(tmp_path)] == [10, 10, 5]
    assert offsets_in(tmp_path) == list(range(10, 25)), "training reads only those of its own list"


def test_what_a_crashed_process_left_is_removed(tmp_path: Path) -> None:
    fill(tmp_path, [NOON])
    left = tmp_path / "p00000-000000000000000-000000000000004-0000000000001.0badcafe.tmp"
    left.touch()
    run(tmp_path)
    assert not left.exists()


def test_nothing_is_merged_while_the_log_is_read(tmp_path: Path) -> None:
    fill(tmp_path, [NOON - DAY_MS, NOON - DAY_MS + 1, NOON])
    with reading(tmp_path), reading(tmp_path):
        assert run(tmp_path) == Upkeep()
    assert run(tmp_path).merged == 1


@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("call", ["unlink", "replace", "fsync"])
def test_a_crash_at_any_step_leaves_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, step: int
) -> None:
    n = fill(tmp_path, [NOON - 2 * DAY_MS + k * HOUR_MS * 8 for k in range(6)] + [NOON])
    with monkeypatch.context() as patch:
        dying = _dies_at(step, getattr(os if call == "fsync" else Path, call))
        patch.setattr(os if call == "fsync" else Path, call, dying)
        crashed = False
        try:
            run(tmp_path)
        except _CrashError:
            crashed = True
    assert offsets_in(tmp_path) == list(range(n))
    run(tmp_path)
    assert offsets_in(tmp_path) == list(range(n))
    assert len(files_in(tmp_path)) == 4, f"the next run heals it (crashed: {crashed})"
    assert sum(pq.read_metadata(f.path).num_rows for f in files_in(tmp_path)) == n, "each row is in one file"


class _CrashError(BaseException):
    """Not an ``Exception``: nothing may handle it."""


def _dies_at(step: int, real: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > step:
            raise _CrashError
        return real(*arguments, **options)

    return call


def test_a_worker_that_stops_gives_up_its_merge(tmp_path: Path) -> None:
    n = fill(tmp_path, [NOON - DAY_MS, NOON - DAY_MS + 1, NOON])
    asked = iter([False, True])
    with pytest.raises(InterruptedMergeError):
        tend(tmp_path, [0], keep_ms=0, now=NOON, stopping=lambda: next(asked))
    assert offsets_in(tmp_path) == list(range(n))
    assert len(files_in(tmp_path)) == 3
    assert list(tmp_path.glob("*.tmp")) == []


def test_old_files_are_deleted(tmp_path: Path) -> None:
    fill(tmp_path, [NOON - days * DAY_MS for days in (9, 6, 4, 0)], dated=True)
    assert run(tmp_path, keep_days=5).expired == 2
    assert times(tmp_path) == [NOON - 4 * DAY_MS, NOON]
    fill(tmp_path, [NOON - 9 * DAY_MS], dated=True)
    assert run(tmp_path, keep_days=0).expired == 0


@pytest.mark.parametrize(
    ("wrong", "record", "shown", "written", "now"),
    [
        ("this machine's clock is ahead", 0, 0, 0, 900),
        ("the clock of the worker that wrote the records is behind", -900, 0, 0, 0),
        ("the clock of the worker that showed the lists is behind", 0, -900, 0, 0),
        ("the clock of the disk is behind", 0, 0, -900, 0),
        ("both timestamps are near the epoch, but the file is new", -20_000, -20_000, 0, 0),
    ],
)
def test_one_wrong_clock_deletes_nothing(
    tmp_path: Path, wrong: str, record: int, shown: int, written: int, now: int
) -> None:
    first = write(tmp_path, some(5, ts=NOON), first=0, ts=NOON)
    path = write(tmp_path, some(5, 5, NOON + shown * DAY_MS), first=5, ts=NOON + record * DAY_MS)
    os.utime(first, (NOON / 1000,) * 2)
    os.utime(path, ((NOON + written * DAY_MS) / 1000,) * 2)
    run(tmp_path, now=NOON + now * DAY_MS, keep_days=30)
    assert offsets_in(tmp_path) == list(range(10)), wrong


def test_a_record_from_the_future_ages_no_other(tmp_path: Path) -> None:
    fill(tmp_path, [NOON - DAY_MS, NOON, 4_000_000_000_000], dated=True)
    run(tmp_path, keep_days=5)
    assert offsets_in(tmp_path) == list(range(15))
