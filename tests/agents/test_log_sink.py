"""log_sink: a batch is acknowledged when its rows are in a Parquet file, at the latest at a stop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from strategies import T0

from headrace.agents.log_sink import LogStage
from headrace.agents.wiring import Wiring
from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import Settings
from headrace.streams.transport.batches import RecordBatch


def stage_in(folder: Path) -> LogStage:
    settings = Settings(data_dir=folder, log_flush_s=10.0)
    nobody: Any = None
    wiring = Wiring(settings, nobody, nobody, MemoryStore(), clock=ManualClock(1_000_000))
    return LogStage(SimpleNamespace(crash=None), wiring)  # type: ignore[arg-type] - all it needs of an app


def batch(partition: int, *offsets: int) -> RecordBatch:
    features = np.zeros(len(SPEC), "<f4").tobytes()
    example = Example(
        request_id="r", user_id="u", item_id="i", surface="home", position=0, ts=T0, country="", device="",
        ranker="", spec=SPEC.version, propensity=1.0, explored=False, score=0.5, clicked=False, dwell_ms=0,
        liked=False, hidden=False, features=features,
    )  # fmt: skip
    value = msgspec.json.encode(example)
    records = [SimpleNamespace(key=b"u", value=value, offset=n, timestamp=5, headers=()) for n in offsets]
    return RecordBatch("examples", partition, records)


async def test_rows_are_written_before_their_batch_is_acknowledged(tmp_path: Path) -> None:
    stage, acked = stage_in(tmp_path), list[str]()
    clock: Any = stage.wiring.clock
    for partition, name in ((0, "a"), (2, "b")):
        await stage.apply(batch(partition, 7, 8))
        await stage.flushes.hold(lambda name=name: acked.append(name), partition)
    await clock.advance(4.9)
    assert (acked, example_log.read(tmp_path).num_rows) == ([], 0)
    while len(acked) < 2 and clock.monotonic() < 20:
        await clock.advance(0.5)
        await stage.flushes.flush([])  # waits for a write in a thread
    assert acked == ["b", "a"], "partitions are written at different moments, each within the interval"
    assert sorted(example_log.read(tmp_path).column("log_offset").to_pylist()) == [7, 7, 8, 8]


async def test_what_is_held_at_a_stop_is_written_and_acknowledged(tmp_path: Path) -> None:
    stage, acked = stage_in(tmp_path), list[str]()
    await stage.apply(batch(1, 3))
    await stage.flushes.hold(lambda: acked.append("a"), 1)
    await stage.flushes.finish()
    assert acked == ["a"]
    assert example_log.read(tmp_path).column("log_offset").to_pylist() == [3]


async def test_rows_of_a_lost_assignment_are_not_written(tmp_path: Path) -> None:
    stage, acked = stage_in(tmp_path), list[str]()
    await stage.apply(batch(1, 3))
    await stage.flushes.hold(lambda: acked.append("a"), 1)
    stage.revoked()
    await stage.flushes.flush()
    assert (acked, example_log.read(tmp_path).num_rows) == ([], 0)
