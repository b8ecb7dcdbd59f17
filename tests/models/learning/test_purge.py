"""The rows of a user are taken out of the training log, in a folder and in a store; nobody else loses one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from logged_examples import example, write
from object_store import KEYS, object_store

from headrace.models.learning import examples as example_log
from headrace.models.learning import purge
from headrace.models.learning.log_files import files_in, reading
from headrace.models.learning.places import Place, place
from headrace.streams.errors import UnavailableError


@pytest.fixture(params=["folder", "store"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "folder":
        yield tmp_path / "log"
        return
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with object_store() as store:
        yield place(store.url) / "log"


def fill(folder: Place) -> None:
    """Write three files: one with some rows of the user, one with none, one with nothing else."""
    rng = np.random.default_rng(0)
    users = [["gone", "a", "gone", "b"], ["a", "b"], ["gone", "gone"]]
    for n, each in enumerate(users):
        rows = [example(10 * n + i, rng, user=user) for i, user in enumerate(each)]
        write(folder, rows, first=10 * n, partition=n % 2, ts=1000 + n)  # type: ignore[arg-type]


def test_only_the_rows_of_the_user_go(log: Place) -> None:
    fill(log)
    others = example_log.read(log).filter(np.array(example_log.read(log)["user_id"].to_pylist()) != "gone")
    untouched = {file.path.name for file in files_in(log)} - set(purge.rows_of(log, "gone"))
    assert sorted(purge.rows_of(log, "gone").values()) == [2, 2]
    assert purge.without(log, "gone") == 4
    assert purge.rows_of(log, "gone") == {}
    left = example_log.read(log)
    assert (
        sorted(left["log_offset"].to_pylist()) == sorted(others["log_offset"].to_pylist()) == [1, 3, 10, 11]
    )
    assert left.schema.equals(others.schema)
    assert untouched < {file.path.name for file in files_in(log)}
    assert purge.without(log, "gone") == 0


def test_nothing_is_done_while_somebody_reads(tmp_path: Path) -> None:
    fill(tmp_path)
    with reading(tmp_path), pytest.raises(UnavailableError, match="is being read"):
        purge.without(tmp_path, "gone")
    assert purge.without(tmp_path, "gone") == 4


def test_a_crash_before_the_old_file_is_gone_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)

    def dies(*_: object, **__: object) -> None:
        raise OSError("the process was killed")

    with monkeypatch.context() as patched:
        patched.setattr(purge, "remove", dies)
        with pytest.raises(OSError, match="killed"):
            purge.without(tmp_path, "gone")
    assert sorted(purge.rows_of(tmp_path, "gone").values()) == [2, 2], "still found"
    assert purge.without(tmp_path, "gone") == 4
    assert sorted(example_log.read(tmp_path)["log_offset"].to_pylist()) == [1, 3, 10, 11]


def test_without_a_log_there_is_nothing(tmp_path: Path) -> None:
    assert purge.without(tmp_path / "none", "gone") == 0
    assert purge.rows_of(tmp_path / "none", "gone") == {}
    fill(tmp_path)
    assert all(pq.read_metadata(str(file.path)).num_rows for file in files_in(tmp_path))
