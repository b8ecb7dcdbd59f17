"""Evicted rows and a broker: recovery, snapshots, a disk that loses rows, a worker that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counting_worker import Worker, produce
from fresh_topics import make_topics
from project import ROOT

from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker
IDS = range(1, 401)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=1)


def evict(worker: Worker, most: int) -> None:
    for part in worker.table.active.values():
        part.evict(max_rows=most)


def count(worker: Worker) -> dict[int, int]:
    """Return all counts, also those of evicted rows, which come back."""
    for part in worker.table.active.values():
        assert not len(part.restore(part.evicted()))
    return worker.counts()


async def test_recovery_and_snapshots_need_no_scan(
    make_settings: Callable[..., Settings], tmp_path: Path, sender: BatchSender, eventually: Any
) -> None:
    prefix = sender._settings.topic_prefix
    settings = make_settings(data_dir=tmp_path, snapshot_every_s=300, topic_prefix=prefix)
    await make_topics(settings)
    await produce(sender, settings, IDS)
    async with Worker(settings) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(IDS, 1))
        evict(worker, 10)
        assert sum(p.evicted_count for p in worker.table.active.values()) > 350
        await produce(sender, settings, range(1, 41))
        await eventually(lambda: sum(worker.handled.values()) == 440)
    for most in (20, None):
        async with Worker(settings, max_rows=most) as worker:  # from the snapshots of the clean stop
            assert worker.recovery.last_read == 0
            if most:
                assert all(len(part.rows) <= most for part in worker.table.active.values())
            assert count(worker) == {k: 2 if k <= 40 else 1 for k in IDS}
            assert worker.table.scans == 0
    for path in (tmp_path / "snapshots").iterdir():
        path.unlink()
    async with Worker(settings, max_rows=20) as worker:  # from the changelogs
        assert worker.recovery.last_read >= 440
        assert all(len(part.rows) <= 20 for part in worker.table.active.values())
        assert count(worker) == {k: 2 if k <= 40 else 1 for k in IDS}
        assert worker.table.scans == 0


async def test_rows_that_the_disk_lost_are_read_from_the_changelog_in_one_scan(
    topics_made: Settings, sender: BatchSender, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = topics_made
    await produce(sender, settings, IDS)
    async with Worker(settings) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(IDS, 1))
        evict(worker, 10)
        part = worker.table.active[1]
        os.ftruncate(part.away._spill._fd, 100)
        for some in range(1, 401, 40):  # ten batches
            await produce(sender, settings, range(some, some + 40))
            await eventually(lambda some=some: sum(worker.handled.values()) == 400 + some + 39)
        assert worker.table.scans == 1
        assert count(worker) == dict.fromkeys(IDS, 2)
        assert "evicted rows of" in caplog.text
        assert "the changelog is read for them" in caplog.text
        assert "lacks" not in caplog.text
        assert worker.table.scans == 1


async def test_a_snapshot_brings_back_what_the_disk_lost(
    make_settings: Callable[..., Settings], tmp_path: Path, sender: BatchSender, eventually: Any
) -> None:
    prefix = sender._settings.topic_prefix
    settings = make_settings(data_dir=tmp_path, snapshot_every_s=300, topic_prefix=prefix)
    await make_topics(settings)
    await produce(sender, settings, IDS)
    async with Worker(settings) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(IDS, 1))
        evict(worker, 10)
        part = worker.table.active[1]
        os.ftruncate(part.away._spill._fd, 100)
        assert not await worker.table.snapshot(part)
        assert worker.table.scans == 1
        assert await worker.table.snapshot(part)
        assert count(worker) == dict.fromkeys(IDS, 1)
    async with Worker(settings, max_rows=20) as worker:
        assert worker.recovery.last_read == 0
        assert count(worker) == dict.fromkeys(IDS, 1)


KILLED = """
import asyncio, os, signal, sys
from counting_worker import Worker
from headrace.streams.settings import Settings

async def main():
    async with Worker(Settings(), member="one", max_rows=20) as worker:
        while True:
            await asyncio.sleep(0.01)
            for part in worker.table.active.values():
                part.evict(max_rows=20)
            evicted = sum(p.evicted_count for p in worker.table.active.values())
            if sum(worker.handled.values()) >= 800 and evicted > 200:
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_nothing_is_left_of_a_killed_worker_and_its_state_is_recovered(
    topics_made: Settings, sender: BatchSender, tmp_path: Path, eventually: Any
) -> None:
    settings = topics_made
    await produce(sender, settings, IDS, each=2)
    given = {f"HEADRACE_{k.upper()}": str(v) for k, v in settings.model_dump(exclude_defaults=True).items()}
    env = {**os.environ, **given, "PYTHONPATH": f"{ROOT / 'tests/support'}:{ROOT / 'src'}"}
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, env=env)
    assert await asyncio.wait_for(killed.wait(), 60) == -signal.SIGKILL
    assert not list((tmp_path / "spill").iterdir())
    async with Worker(settings, member="one", max_rows=20) as worker:
        assert sum(part.evicted_count for part in worker.table.active.values()) > 200
        await eventually(lambda: count(worker) == dict.fromkeys(IDS, 2))  # a last batch may come again
        assert worker.table.scans == 0
    assert not list((tmp_path / "spill").iterdir())
