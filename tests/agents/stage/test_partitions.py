"""The partitions of a stage: kept with their tables, reads that wait for the broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError

from headrace.agents.stage import copied_store
from headrace.agents.stage.copied_store import packed, persist
from headrace.agents.stage.drive import all_of
from headrace.agents.stage.partitions import StagePartition, StagePartitions
from headrace.models.state import users as user_state
from headrace.streams.errors import FencedError
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable, unpack


def state(number: int = 0) -> StatePartition:
    return StatePartition(number, RowTable(user_state.ROW, user_state.BLANK[()], user_state.ORDER))


class Tables:
    """The part of a table that ``StagePartitions`` uses: its partition objects."""

    def __init__(self, **states: StatePartition) -> None:
        self.active = {int(k[1:]): s for k, s in states.items()}

    def partition(self, number: int) -> StatePartition:
        if number not in self.active:
            raise FencedError("not here")
        return self.active[number]


def store_of(table: Tables) -> Any:
    return SimpleNamespace(state_store=table, attach=lambda state, applied: None, copy=None)


def test_rows_in_memory_are_packed_and_others_are_none() -> None:
    part = state()
    part.rows.take(np.array([7, 9], np.uint64))
    rows = packed(part, np.array([9, 8, 7], np.uint64))
    assert unpack(rows, part.rows.dtype)[0]["key"].tolist() == [9, 0, 7]
    assert [row is None for row in rows] == [False, True, False]


def test_a_partition_lives_as_long_as_the_state_it_was_built_on() -> None:
    table = Tables(p0=state(0), p1=state(1))
    parts: StagePartitions[StagePartition] = StagePartitions([store_of(table)], StagePartition)
    zero = parts.get(0)
    assert parts.get(0) is zero
    table.active[0] = state(0)
    assert list(parts) == [], "what was built on lost state is not written from"
    assert parts.get(0) is not zero
    del table.active[0]
    with pytest.raises(FencedError):
        parts.get(0)
    parts.keep_up()
    assert [p.number for p in parts] == [1], "also one that nobody asked for"


async def test_a_read_waits_for_the_broker_and_a_lost_partition_ends_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(copied_store, "RETRY_S", 0.001)
    outcomes: list[Any] = [KafkaConnectionError("away"), KafkaConnectionError("away"), 3]

    async def read() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    assert await persist(read) == 3
    outcomes[:] = [KafkaConnectionError("away"), FencedError("somebody else's")]
    with pytest.raises(FencedError):
        await persist(read)


async def test_all_are_waited_for_before_the_first_error_is_raised() -> None:
    ended: list[int] = []

    async def part(n: int, pause: float, fails: bool) -> None:
        await asyncio.sleep(pause)
        ended.append(n)
        if fails:
            raise RuntimeError(str(n))

    with pytest.raises(RuntimeError, match="1"):
        await all_of(part(1, 0, True), part(2, 0.02, False))
    assert ended == [1, 2]
