"""A stage's rows beyond ``memory_rows`` come back from the disk, while Redis and the broker are away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transport_probes import quick_app

from headrace.agents.stage.copied_store import CopiedStore
from headrace.agents.wiring import Wiring
from headrace.models.state import users as user_state
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition

DAY_S = 86_400
NOW = 1_790_000_000_000
IDS = np.arange(1, 3001, dtype=np.uint64)


class Stage:
    """One partition of users in a store; nothing answers at the broker's address, and Redis is away."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        settings = Settings(brokers="127.0.0.1:1", data_dir=folder, memory_rows=1000, state_ttl_s=90 * DAY_S)
        nobody: Any = None
        self.redis = MemoryStore()
        self.redis.away = True
        wiring = Wiring(settings, nobody, nobody, self.redis, clock=self.clock)
        self.store = CopiedStore(
            quick_app(settings, "ingest"),
            wiring,
            wiring.topics.user_state,
            "u",
            dtype=user_state.ROW,
            blank=user_state.BLANK[()],
            order=user_state.ORDER,
            lasting="has_profile",
        )
        self.part: StatePartition = self.store.state_store.new_partition(0)
        self.store.state_store.assign({0: self.part}, {})

    async def click(self, users: np.ndarray, updated: int = NOW) -> None:
        await self.store.make_room(self.part)
        await self.store.restore(self.part, lambda: users)
        rows = self.part.rows.take(users)
        self.part.rows.data["n_clicks"][rows] += 1
        self.part.rows.data["updated"][rows] = updated
        self.part.touch(rows)
        self.part.written(self.part.take())

    async def days(self, days: int) -> None:
        """Let time pass, with a batch of one user every three days."""
        for _ in range(days // 3):
            await self.clock.advance(3 * DAY_S)
            await self.click(IDS[:1], self.clock.now_ms())

    def clicks(self) -> dict[int, int]:
        assert not len(self.part.restore(self.part.evicted()))
        rows = self.part.rows.data[self.part.rows.rows()]
        return dict(zip(rows["key"].tolist(), rows["n_clicks"].tolist(), strict=True))


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_evicted_rows_come_back_without_redis_and_broker(stage: Stage, tmp_path: Path) -> None:
    for _ in range(3):
        for start in range(0, 3000, 300):
            await stage.click(IDS[start : start + 300])
            assert len(stage.part.rows) <= 1300
            assert not list((tmp_path / "spill").glob("*"))
    assert stage.part.evicted_count >= 1700
    assert stage.store.state_store.scans == 0
    assert stage.clicks() == dict.fromkeys(IDS.tolist(), 3)


async def test_users_idle_for_long_are_deleted_but_those_with_a_profile(stage: Stage) -> None:
    for start in range(0, 3000, 300):
        await stage.click(IDS[start : start + 300])
    await stage.store.restore(stage.part, lambda: IDS[10:20])
    rows = stage.part.rows.find(IDS[10:20])
    stage.part.rows.data["has_profile"][rows] = True
    stage.part.touch(rows)
    await stage.days(88)
    assert len(stage.clicks()) == 3000
    await stage.days(120)
    assert set(stage.clicks()) == {1, *range(11, 21)}


async def test_a_click_of_the_year_2096_deletes_nobody(stage: Stage) -> None:
    for start in range(0, 3000, 300):
        await stage.click(IDS[start : start + 300])
    await stage.click(IDS[:1], 4_000_000_000_000)
    for _ in range(40):
        await stage.clock.advance(30.0)
        await stage.click(IDS[:1], 4_000_000_000_000)
    assert set(stage.clicks()) == set(IDS.tolist())


async def test_a_clock_that_jumps_deletes_nobody(stage: Stage) -> None:
    for start in range(0, 3000, 300):
        await stage.click(IDS[start : start + 300])
    for jump in (365 * DAY_S * 1000, -730 * DAY_S * 1000, 365 * DAY_S * 1000):
        stage.clock._start_ms += jump
        for _ in range(12):
            await stage.clock.advance(30.0)
            await stage.click(IDS[:1])
    assert set(stage.clicks()) == set(IDS.tolist())
