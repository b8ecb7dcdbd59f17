"""A batch of users is applied as a whole or not at all, whatever a rebalance interrupts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from strategies import T0, record
from transport_probes import quick_app

from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.track_users import UserStage
from headrace.agents.wiring import Wiring
from headrace.serving.attributes import ItemAttributes
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.errors import FencedError
from headrace.streams.messages.ids import hash_many
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import U64, StatePartition
from headrace.streams.topics.placement import FORWARDED
from headrace.streams.transport.batches import RecordBatch

USERS = [f"u{n}" for n in range(8)]


class World:
    """A stage that owns partition 0; nothing answers at the broker's address."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(brokers="127.0.0.1:1", data_dir=folder, partitions=1, dedup_window_ms=0)
        nobody: Any = None
        wiring = Wiring(settings, nobody, nobody, MemoryStore(), clock=ManualClock(T0))
        self.stage = UserStage(quick_app(settings, "ingest"), wiring, CatalogFollower(ItemAttributes()))
        self.parts = [store.state_store.new_partition(0) for store in self.stage.stores]
        self.events = 0
        self.assign()

    def assign(self) -> None:
        """End a rebalance: the partition is this worker's."""
        for store, part in zip(self.stage.stores, self.parts, strict=True):
            store.state_store.assign({0: part}, {})

    async def rebalance(self, *, elsewhere: bool = False) -> None:
        """Begin and end a rebalance; ``elsewhere``: another worker has owned the partition meanwhile."""
        self.stage.revoked()
        for store in self.stage.stores:
            await store.state_store.suspend()
        if elsewhere:
            self.parts = [part.successor() for part in self.parts]
        self.assign()

    def batch(self, *, sent_on: bool) -> RecordBatch:
        """Return a click of each user; ``sent_on``: all came from another partition."""
        records = []
        for user in USERS:
            event = {"event_id": f"e{self.events}", "type": "click", "user_id": user, "item_id": "i"}
            one = record(
                msgspec.json.encode({**event, "ts": T0}), key=user.encode(), offset=self.events, timestamp=T0
            )
            one.headers = ((FORWARDED, f"events/1/{self.events}".encode()),) if sent_on else ()
            records.append(one)
            self.events += 1
        return RecordBatch("events", 0, records)

    def written(self) -> list[int]:
        """Write what changed to the changelog; return the clicks of each user in memory and on the disk."""
        (state, _), _ = self.parts, [part.take() for part in self.stage.partitions]
        for part in self.parts:
            part.written(part.take())
        keys = hash_many(USERS)
        assert not len(state.restore(keys))
        clicks: list[int] = state.rows.data["n_clicks"][state.rows.find(keys)].tolist()
        return clicks


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_records_that_were_sent_on_count_after_their_batch_was_skipped(world: World) -> None:
    await world.stage.apply(world.batch(sent_on=False))
    assert world.written() == [1] * len(USERS)
    state = world.parts[0]
    assert len(state.away.move(state.rows, hash_many(USERS))) == len(USERS), "rows must be brought back"

    batch = world.batch(sent_on=True)
    restore = world.stage.store.restore

    async def interrupted(state: StatePartition, keys: Any) -> None:
        for store in world.stage.stores:
            await store.state_store.suspend()  # a rebalance begins while the batch waits for its rows
        await restore(state, keys)

    world.stage.store.restore = interrupted  # type: ignore[method-assign]
    with pytest.raises(FencedError):
        await world.stage.apply(batch)
    world.stage.store.restore = restore  # type: ignore[method-assign]
    await world.rebalance()
    await world.stage.apply(batch)
    assert world.written() == [2] * len(USERS)


@pytest.mark.parametrize("topic", ["events", "impressions", "users"])
async def test_a_batch_of_a_partition_that_was_replaced_changes_nothing(world: World, topic: str) -> None:
    await world.stage.apply(world.batch(sent_on=False))
    world.written()
    make_room = world.stage.lists.make_room

    async def slow(state: StatePartition) -> None:
        await make_room(state)
        await world.rebalance(elsewhere=True)

    batch = world.batch(sent_on=False)
    if topic == "impressions":
        shown = {"user_id": USERS[0], "ts": T0, "country": "", "item_ids": ["i"]}
        batch = RecordBatch(topic, 0, [record(msgspec.json.encode(shown), key=USERS[0].encode())])
    elif topic == "users":
        batch = RecordBatch(topic, 0, [record(None, key=user.encode(), timestamp=T0) for user in USERS[:1]])
    world.stage.lists.make_room = slow  # type: ignore[method-assign]
    with pytest.raises(FencedError):
        await world.stage.apply(batch)
    world.stage.lists.make_room = make_room  # type: ignore[method-assign]
    assert not any(part.dirty for part in world.parts)
    changed: U64 = hash_many(USERS)
    before = world.parts[0].rows.pack(world.parts[0].rows.find(changed))
    await world.stage.apply(batch)
    after = world.parts[0].rows.pack(world.parts[0].rows.find(changed))
    assert list(before) != list(after), "delivered again, it is applied"
    assert np.any([part.dirty for part in world.parts])
