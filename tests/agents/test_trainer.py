"""trainer: trains when the log has grown; a stop waits for no training, and publishes nothing of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logged_examples import example, processes_with, write

from headrace.agents import trainer
from headrace.agents.trainer import Trainer, train_once
from headrace.agents.wiring import Wiring
from headrace.models.learning import ranker
from headrace.models.learning.log_files import folder_of, newest
from headrace.models.learning.ranker import RankerParams
from headrace.serving.store.memory import MemoryStore
from headrace.streams.settings import Settings


class Outbox:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send_many(self, topic: str, records: list[Any], *, partition: int) -> None:
        self.sent.append((topic, partition, records))


def wiring_in(folder: Path, **settings: Any) -> tuple[Wiring, Outbox]:
    outbox: Any = Outbox()
    values: dict[str, Any] = {"train_every_s": 0.02, "train_min_rows": 100, "train_min_clicks": 1}
    s = Settings(data_dir=folder, **{**values, **settings})
    return Wiring(s, outbox, outbox, MemoryStore()), outbox


def fill(wiring: Wiring, rows: int = 300, first: int = 0) -> None:
    rng = np.random.default_rng(first)
    write(folder_of(wiring.settings), [example(first + i, rng) for i in range(rows)], first=first)


async def test_each_installation_trains_on_its_own_log(tmp_path: Path) -> None:
    for rows, prefix in ((300, ""), (200, "replay-")):
        wiring, outbox = wiring_in(tmp_path, topic_prefix=prefix)
        fill(wiring, rows)
        done = await train_once(wiring, RankerParams(trees=5))
        assert done is not None
        assert done[0].rows == rows
        ((topic, _, ((_, value, _, _),)),) = outbox.sent
        assert topic == f"{prefix}models"
        assert ranker.decode(value).version == done[1]


async def test_a_training_begins_when_the_log_has_grown(
    tmp_path: Path, eventually: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring, outbox = wiring_in(tmp_path)
    looks = 0

    def counted(folder: Path) -> Any:
        nonlocal looks
        looks += 1
        return newest(folder)

    monkeypatch.setattr(trainer.log_files, "newest", counted)
    fill(wiring)
    service = Trainer(wiring)
    await service.start()
    try:
        await eventually(lambda: len(outbox.sent) == 1, 30)
        seen = looks
        await eventually(lambda: looks > seen + 3)
        assert len(outbox.sent) == 1, "there is nothing new to learn"
        fill(wiring, first=300)
        await eventually(lambda: len(outbox.sent) == 2, 30)
    finally:
        await service.stop()


async def test_a_stop_ends_a_training_and_publishes_nothing(
    tmp_path: Path, eventually: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "RankerParams", lambda: RankerParams(trees=1_000_000))
    wiring, outbox = wiring_in(tmp_path)
    fill(wiring)
    service = Trainer(wiring)
    await service.start()
    await eventually(lambda: processes_with(str(tmp_path)), 20)
    began = time.monotonic()
    await asyncio.wait_for(service.stop(), 10)
    assert time.monotonic() - began < 5
    assert processes_with(str(tmp_path)) == []
    assert outbox.sent == []
