"""Rows of items reach the mirrors in order, a slice at a time; the loop has its turn in between."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest

from headrace.agents.stage import slices
from headrace.agents.stage.slices import Pace, in_slices
from headrace.streams.transport.batches import RecordBatch


def batch(topic: str, n: int) -> RecordBatch:
    return RecordBatch(topic, 0, [SimpleNamespace(offset=i) for i in range(n)])


class Steady(Pace):
    """What this machine needs does not matter: two records take a slice."""

    def records(self, within_s: float) -> int:
        return int(2 * within_s / slices.SLICE_S)


@pytest.mark.parametrize(("answering", "at_most"), [(True, 2), (False, 25)])
async def test_others_have_their_turn_after_every_slice(answering: bool, at_most: int) -> None:
    pace, applied, turns = Steady(), list[tuple[str, int]](), list[int]()

    def work(part: list[RecordBatch]) -> None:
        applied.extend((b.topic, r.offset) for b in part for r in b.records)

    async def other() -> None:
        while len(applied) < 70:
            turns.append(len(applied))
            await asyncio.sleep(0)

    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    await in_slices([batch("rows", 30), batch("countries", 40)], work, pace, lambda: answering)
    await waiting
    assert applied == [("rows", i) for i in range(30)] + [("countries", i) for i in range(40)]
    steps = [b - a for a, b in pairwise(turns)]
    assert max(steps) <= at_most
    assert len([step for step in steps if step]) >= 70 // at_most - 1
