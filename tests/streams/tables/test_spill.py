"""A spill file on a disk that is full, read-only or loses rows: rows stay in memory until it works again."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from state_rows import ROW, contents

from headrace.streams.clock import ManualClock
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable
from headrace.streams.tables.spill import BROKEN_S, QUIET_S, RETRY_S, SEGMENT_BYTES, SpillFolder

IDS = np.arange(1, 3001, dtype=np.uint64)


@contextmanager
def full_disk(size: int = 0) -> Iterator[None]:
    """No file can be longer than ``size``, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def filled(folder: SpillFolder) -> StatePartition:
    part = StatePartition(0, RowTable(ROW), spills=folder)
    rows = part.rows.take(IDS)
    part.rows.data["count"][rows] = IDS
    return part


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


async def test_a_full_disk_keeps_rows_in_memory_and_heals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    part = filled(SpillFolder(tmp_path, clock))
    whole = contents(part)
    with full_disk():
        for _ in range(int(2 * QUIET_S / RETRY_S)):
            assert not len(part.evict(max_rows=100))
            await clock.advance(RETRY_S)
        assert contents(part) == whole
    assert len(warnings(caplog)) == 2, "one in 30 s"
    assert "stay in memory" in warnings(caplog)[0]
    assert len(part.evict(max_rows=100)) == 2901
    assert "are evicted to" in caplog.text
    assert not len(part.restore(IDS))
    assert contents(part) == whole


async def test_a_disk_that_fills_up_takes_what_fits(tmp_path: Path) -> None:
    clock = ManualClock()
    part = filled(SpillFolder(tmp_path, clock))
    whole = contents(part)
    with full_disk(10_000):
        assert not len(part.evict(before_ms=1)), "a piece is written as a whole or not at all"
        assert len(part.rows) == 3000
        await clock.advance(RETRY_S)
        some = part.rows.data["updated"]
        some[part.rows.find(IDS[:200])] = -1
        assert len(part.evict(before_ms=0)) == 200
        assert not len(part.restore(IDS[:100])), "reading goes on"
    assert not len(part.restore(IDS))
    assert contents(part) == whole


async def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    (tmp_path / "data").write_text("not a folder")
    part = filled(SpillFolder(tmp_path / "data" / "spill", clock))
    assert not len(part.evict(max_rows=100))
    (tmp_path / "data").unlink()
    assert not len(part.evict(max_rows=100)), "tried again in a while"
    await clock.advance(RETRY_S)
    assert len(part.evict(max_rows=100)) == 2901
    assert len(warnings(caplog)) == 1


async def test_nothing_is_written_for_a_while_to_a_disk_that_lost_rows(tmp_path: Path) -> None:
    clock = ManualClock()
    part = filled(SpillFolder(tmp_path, clock))
    part.evict(max_rows=1000)
    fd = part.away._spill._fd
    os.ftruncate(fd, os.fstat(fd).st_size // 2)
    lost = part.restore(IDS)
    assert 500 < len(lost) < 1500
    assert not len(part.evict(max_rows=1000))
    await clock.advance(BROKEN_S)
    assert len(part.evict(max_rows=1000))


def test_the_room_is_given_back(tmp_path: Path) -> None:
    part = filled(SpillFolder(tmp_path))
    part.evict(before_ms=1)
    fd = part.away._spill._fd
    assert 0 < os.fstat(fd).st_size <= SEGMENT_BYTES
    part.delete(IDS)
    assert os.fstat(fd).st_size == 0
    del part
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_nothing_is_left_of_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import numpy as np;"
        "from headrace.streams.tables.spill import Spill, SpillFolder;"
        "from headrace.streams.tables.rows import PackedRows;"
        "spill = Spill(SpillFolder(Path(sys.argv[1])));"
        "at = spill.write(PackedRows.of([1, 2], [b'a' * 500_000, b'b' * 900_000]));"
        "assert [len(r) for r in spill.read(at, np.array([500_000, 900_000]))] == [500_000, 900_000];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "spill")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list((tmp_path / "spill").iterdir())
