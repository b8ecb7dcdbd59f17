"""log_sink: a batch is acknowledged when its rows are in a Parquet file, at the latest at a stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from logged_examples import offsets_in
from object_store import object_store
from small_disk import fill, mounted
from strategies import T0

from headrace.agents import log_sink
from headrace.agents.log_sink import LogStage
from headrace.agents.wiring import Wiring
from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.errors import FencedError
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import Settings
from headrace.streams.transport.batches import RecordBatch


@pytest.fixture(autouse=True)
async def one_thread() -> None:
    """Work in threads is done in order, so that a test can wait for it."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


class Stage(LogStage):
    """A stage without an app; remembers the acks."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        nobody: Any = None
        self.app: Any = SimpleNamespace(crash=self._crash, should_stop=False)
        self.clock = ManualClock(1_000_000)
        self.acked: list[str] = []
        s = Settings(data_dir=folder, log_flush_s=10.0, **settings)
        super().__init__(self.app, Wiring(s, nobody, nobody, MemoryStore(), clock=self.clock))

    async def _crash(self, exc: BaseException) -> None:
        raise AssertionError("the worker ends") from exc

    async def take(self, name: str, partition: int, *offsets: int, user: str = "u") -> None:
        await self.apply(batch(partition, *offsets, user=user))
        await self.flushes.hold(lambda: self.acked.append(name), partition)

    async def until(self, done: Callable[[], bool], within: float = 60.0) -> None:
        """Move the clock until something is the case; wait for writes, which are made in a thread."""
        deadline = self.clock.monotonic() + within
        while not done():
            assert self.clock.monotonic() < deadline, "it did not happen in time"
            await self.clock.advance(0.5)
            await asyncio.to_thread(lambda: None)


def batch(partition: int, *offsets: int, user: str = "u", features: int = len(SPEC)) -> RecordBatch:
    example = Example(
        request_id="r", user_id=user, item_id="i", surface="home", position=0, ts=T0, country="", device="",
        ranker="", spec=SPEC.version, propensity=1.0, explored=False, score=0.5, clicked=False, dwell_ms=0,
        liked=False, hidden=False, features=np.zeros(features, "<f4").tobytes(),
    )  # fmt: skip
    value = msgspec.json.encode(example)
    records = [SimpleNamespace(key=b"u", value=value, offset=n, timestamp=5, headers=()) for n in offsets]
    return RecordBatch("examples", partition, records)


async def test_rows_are_written_before_their_batch_is_acknowledged(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.take("a", 0, 7, 8)
    await stage.take("b", 2, 7, 8)
    await stage.clock.advance(4.9)
    assert (stage.acked, offsets_in(stage.folder)) == ([], [])
    await stage.until(lambda: len(stage.acked) == 2)
    assert stage.clock.monotonic() <= 11.0
    assert offsets_in(stage.folder) == [7, 7, 8, 8]


async def test_what_is_held_at_a_stop_is_written_and_acknowledged(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.take("a", 1, 3)
    await stage.flushes.finish()
    assert stage.acked == ["a"]
    assert offsets_in(stage.folder) == [3]


async def test_rows_of_a_lost_assignment_are_not_written(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.take("a", 1, 3)
    stage.revoked()
    await stage.flushes.flush()
    assert (stage.acked, offsets_in(stage.folder)) == ([], [])


async def test_a_batch_that_is_decoded_during_a_rebalance_is_skipped(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    applying = asyncio.create_task(stage.apply(batch(1, 3)))
    await asyncio.sleep(0)  # it is in its thread now
    stage.revoked()
    with pytest.raises(FencedError):
        await applying
    await stage.flushes.flush()
    assert offsets_in(stage.folder) == []


async def test_a_batch_of_bad_examples_is_acknowledged_without_a_file(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.apply(batch(1, 3, features=4))
    await stage.flushes.hold(lambda: stage.acked.append("bad"), 1)
    await stage.flushes.finish()
    assert (stage.acked, offsets_in(stage.folder)) == (["bad"], [])


async def test_tables_are_made_and_written_off_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, threads = Stage(tmp_path), set[int]()

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            threads.add(threading.get_ident())
            return real(*arguments)

        return call

    for name in ("table_of", "write"):
        monkeypatch.setattr(example_log, name, noted(getattr(example_log, name)))
    await stage.take("a", 1, 3)
    await stage.flushes.finish()
    assert threads
    assert threading.get_ident() not in threads


async def test_two_installations_in_one_data_folder_do_not_mix(tmp_path: Path) -> None:
    stages = [Stage(tmp_path, topic_prefix=prefix) for prefix in ("", "replay-")]
    for n, stage in enumerate(stages):
        await stage.take("a", 0, *range(120), user=f"user of {n}")
        await stage.flushes.finish()
    for n, stage in enumerate(stages):
        log = example_log.read(stage.folder)
        assert log.column("user_id").to_pylist() == [f"user of {n}"] * 120


# -- a disk that takes nothing


class Disk:
    """While it is full, no file is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, self.tries = False, 0
        real = os.fsync

        def fsync(handle: int) -> None:
            self.tries += 1
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_a_full_disk_is_waited_for_without_new_batches(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    stage, disk.full = Stage(tmp_path), True
    await stage.take("a", 0, 1, 2)
    await stage.take("b", 1, 3)
    with caplog.at_level(logging.INFO):
        await stage.until(lambda: stage.clock.monotonic() >= 100.0, within=101)
        assert (stage.acked, offsets_in(stage.folder)) == ([], [])
        assert len([r for r in caplog.records if "cannot be written" in r.message]) in {3, 4}, "one in 30 s"
        assert "No space left" in caplog.text
        disk.full = False
        await stage.until(lambda: len(stage.acked) == 2)
    assert offsets_in(stage.folder) == [1, 2, 3]
    assert "the training log is written again" in caplog.text
    assert list(stage.folder.glob("*.tmp")) == []


async def test_the_agent_waits_while_the_disk_is_full(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sink, "MAX_ROWS", 100)
    stage, disk.full = Stage(tmp_path), True

    async def agent() -> None:
        for n in range(50):
            await stage.take(str(n), 0, *range(10 * n, 10 * n + 10))
        await asyncio.Event().wait()  # for the next batch

    running = asyncio.create_task(agent())
    await stage.until(lambda: disk.tries > 20)
    assert stage._rows() <= 100, "memory stays bounded"
    disk.full = False
    await stage.until(lambda: len(stage.acked) == 50)
    running.cancel()
    assert stage.acked == [str(n) for n in range(50)]
    assert offsets_in(stage.folder) == list(range(500))


async def test_a_stop_does_not_wait_for_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    stage, disk.full = Stage(tmp_path), True
    await stage.take("a", 0, 1)
    await stage.until(lambda: disk.tries > 2)
    stage.app.should_stop = True
    stopping = asyncio.create_task(stage.flushes.finish())
    await stage.until(stopping.done, within=2.0)
    assert stopping.exception() is None
    assert stage.acked == []
    disk.full = False
    await stage.flushes.finish()
    assert (stage.acked, offsets_in(stage.folder)) == (["a"], [1]), "what could not be written was kept"


async def test_a_rebalance_ends_the_wait_for_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    stage, disk.full = Stage(tmp_path), True
    await stage.take("a", 0, 1)
    await stage.until(lambda: disk.tries > 2)
    stage.revoked()
    await stage.clock.advance(2.0)
    disk.full = False
    await stage.take("b", 0, 1, 2)  # delivered again
    await stage.until(lambda: bool(stage.acked))
    assert (stage.acked, offsets_in(stage.folder)) == (["b"], [1, 2])


async def test_a_disk_that_is_really_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mounted(tmp_path / "small") as disk:
        stage, filler = Stage(disk), fill(disk)
        await stage.take("a", 0, *range(100))
        await stage.until(lambda: "cannot be written" in caplog.text)
        await stage.until(lambda: stage.clock.monotonic() > 50)
        assert stage.acked == []
        filler.unlink()
        await stage.until(lambda: bool(stage.acked))
        assert offsets_in(stage.folder) == list(range(100))
        assert list(stage.folder.glob("*.tmp")) == []


# -- in a store


async def test_a_store_that_does_not_answer_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with object_store() as store:
        port, url = store.port, store.url
    stage = Stage(tmp_path, data_url=url)
    await stage.take("a", 0, 1, 2)
    await stage.until(lambda: "cannot be written" in caplog.text)
    assert stage.acked == []
    with object_store(port):
        await stage.until(lambda: bool(stage.acked), within=600.0)
        assert offsets_in(stage.folder) == [1, 2]
    assert list(tmp_path.iterdir()) == [], "nothing of it is on the disk"
