"""A store in memory and a stage that writes to it."""

from __future__ import annotations

import pytest
from stage_rows import Record, Stage, rows_of

from headrace.serving.store.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def stage(store: MemoryStore) -> Stage:
    """A stage with 600 rows in memory and 100 evicted ones; everything is in the store."""
    stage = Stage(store)
    stage.change(rows_of(range(700)))
    await stage.flush()
    stage.change(rows_of(range(300), 1))
    await stage.flush()
    stage.log.append(Record(len(stage.log), None, b"no key"))
    stage.durable()
    stage.evict(range(250, 350))
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert stage.feed.caught_up
    stage.reads.clear()
    return stage
