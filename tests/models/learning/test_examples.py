from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from logged_examples import example, offsets_in, write

from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import durable_file, files_in, folder_of
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import Settings


def some(n: int, start: int = 0) -> list[Example]:
    rng = np.random.default_rng(start)
    labels = itertools.cycle(("touched", "skipped", "passed", "unseen", ""))
    return [
        msgspec.structs.replace(example(start + i, rng), label=label)  # type: ignore[arg-type]
        for i, label in zip(range(n), labels, strict=False)
    ]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    examples = some(20)
    write(tmp_path, examples[:12])
    write(tmp_path, examples[12:], first=12)
    table = example_log.read(tmp_path)
    assert table.column("label").to_pylist() == [e.label for e in examples]
    assert table.column("item_id").to_pylist() == [e.item_id for e in examples]
    assert np.array_equal(
        example_log.features_of(table), np.stack([np.frombuffer(e.features, "<f4") for e in examples])
    )


def test_records_delivered_twice_are_read_once(tmp_path: Path) -> None:
    examples = some(20)
    write(tmp_path, examples)
    write(tmp_path, examples[5:], first=5)
    assert offsets_in(tmp_path) == list(range(20))


def test_a_topic_made_again_replaces_no_file_and_no_row_of_the_deleted_one(tmp_path: Path) -> None:
    write(tmp_path, some(20), ts=1000)
    write(tmp_path, some(20, start=500), ts=2000)  # offsets begin at 0 again
    assert offsets_in(tmp_path) == sorted([*range(20), *range(20)])


def test_two_installations_have_two_folders(tmp_path: Path) -> None:
    mine, other = (Settings(data_dir=tmp_path, topic_prefix=prefix) for prefix in ("", "replay-"))
    assert folder_of(mine) == tmp_path / "examples", "where version 0.1.0 has it"
    write(folder_of(mine), some(20))
    write(folder_of(other), some(20, start=100))
    for settings, first in ((mine, 0), (other, 100)):
        found = example_log.read(folder_of(settings)).column("request_id").to_pylist()
        assert found == [f"r{(first + i) // 5}" for i in range(20)]


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, some(10))
    (tmp_path / "p00009-000000000000000-000000000000001.parquet").write_bytes(b"")
    assert example_log.read(tmp_path).num_rows == 10
    assert "cannot be read" in caplog.text


def test_files_of_version_0_1_0_are_read(tmp_path: Path) -> None:
    write(tmp_path, some(10))
    (new,) = tmp_path.glob("*.parquet")
    old = pq.read_table(new).drop_columns(["log_ts"])
    new.unlink()
    pq.write_table(old, tmp_path / "p00000-000000000000000-000000000000009.parquet")
    write(tmp_path, some(10, start=10), first=10)
    assert offsets_in(tmp_path) == list(range(20))
    assert [file.ts for file in files_in(tmp_path)] == [0, 1000]


@pytest.mark.parametrize("ts", [-(2**40), -1, 0])
def test_records_may_have_any_timestamp(tmp_path: Path, ts: int) -> None:
    write(tmp_path, some(10), ts=ts)
    assert [(f.ts, f.last) for f in files_in(tmp_path)] == [(0, 9)]
    assert example_log.read(tmp_path).column("log_ts").to_pylist() == [ts] * 10


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "p00000-0-1-1.parquet"
    with pytest.raises(OSError, match="full"), durable_file(path) as handle:  # noqa: PT012
        handle.write(b"half of it")
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []
