"""The upkeep of the log runs from time to time, in a thread, for the partitions owned at that time."""

from __future__ import annotations

import asyncio
import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from logged_examples import example, offsets_in, write

from headrace.agents.stage.log_upkeep import EVERY_S, LogUpkeep
from headrace.models.learning import compaction
from headrace.models.learning.log_files import files_in
from headrace.streams.clock import ManualClock
from headrace.streams.settings import DAY_MS

NOW = 20_000 * DAY_MS


def fill(folder: Path, partition: int) -> None:
    rng = np.random.default_rng(partition)
    for n, ts in enumerate([NOW - DAY_MS, NOW - DAY_MS + 1, NOW]):
        write(folder, [example(n, rng)], first=n, partition=partition, ts=ts)


async def test_files_of_owned_partitions_are_merged_again_and_again(tmp_path: Path) -> None:
    owned, clock = {0}, ManualClock(NOW)
    for partition in (0, 1):
        fill(tmp_path, partition)
    upkeep = LogUpkeep(tmp_path, lambda: owned, 0, clock)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await upkeep.start()
    files = []
    for _ in range(2):
        await clock.advance(EVERY_S)
        await upkeep.once()  # in the same thread, after the run of the timer: it finds nothing to do
        files.append([file.partition for file in files_in(tmp_path)])
        owned.add(1)
    await upkeep.stop()
    assert files == [[0, 0, 1, 1, 1], [0, 0, 1, 1]]
    assert offsets_in(tmp_path) == [0, 0, 1, 1, 2, 2]


async def test_a_full_disk_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, 0)
    upkeep = LogUpkeep(tmp_path, lambda: [0], 0, ManualClock(NOW))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(compaction.pq, "ParquetWriter", full)
        await upkeep.once()
    assert "No space left" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert offsets_in(tmp_path) == [0, 1, 2]
    assert list(tmp_path.glob("*.tmp")) == []
    await upkeep.once()
    assert len(files_in(tmp_path)) == 2


async def test_a_service_that_stops_leaves_the_files_alone(tmp_path: Path) -> None:
    fill(tmp_path, 0)
    upkeep = LogUpkeep(tmp_path, lambda: [0], 0, ManualClock(NOW))
    await upkeep.start()
    await asyncio.wait_for(upkeep.stop(), 5)
    await upkeep.once()
    assert len(files_in(tmp_path)) == 3
