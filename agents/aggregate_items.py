"""aggregate_items: reads `item-events`; writes `item-features`, `item-countries`, `item-neighbours`, Redis.

It skips two kinds of events, so that every count is exact after a crash: events that a row already reflects
(by the offset in the row), and events that track_users wrote twice (their number is not above the high-water
mark of their source).
"""

from __future__ import annotations

from typing import Any

import faust
import numpy as np
import numpy.typing as npt
from mode import Service

from headrace.agents.partitions.items import ItemPartition
from headrace.agents.stage.copied_store import CopiedStore, write_last_first
from headrace.agents.stage.drive import OldEvents, all_of, drive
from headrace.agents.stage.flushes import Backlog, Durable, Flushes
from headrace.agents.stage.partitions import AssignmentKeeper, StagePartitions
from headrace.agents.wiring import Wiring
from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state.items import places_of
from headrace.streams.errors import RejectedError
from headrace.streams.messages.packed_item_events import unpack_item_events
from headrace.streams.tables.partition import Changes
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics import flow
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("aggregate_items")


class ItemStage:
    """Applies batches to the partitions that this process owns; writes changes to Kafka and Redis."""

    def __init__(self, app: faust.App, wiring: Wiring) -> None:
        self.wiring = wiring
        s, t = wiring.settings, wiring.topics
        rows: dict[str, Any] = {"dtype": item_state.ROW, "blank": item_state.BLANK[()]}
        pairs: dict[str, Any] = {"dtype": neighbours.ROW, "blank": neighbours.BLANK[()]}
        self.items = CopiedStore(app, wiring, t.item_features, "i", **rows)
        self.countries = CopiedStore(app, wiring, t.item_countries, None, **rows)
        self.pairs = CopiedStore(app, wiring, t.neighbours, "n", **pairs)
        self.stores = [self.items, self.countries, self.pairs]
        self.partitions = StagePartitions(self.stores, ItemPartition)
        intervals = s.flush_every_ms / 1000, s.durable_every_ms / 1000
        self.flushes = Flushes(self._show, self._save, *intervals, app.crash, wiring.clock)
        # The records of item events are as new as the last flush of track_users.
        self._old = OldEvents(s.durable_every_ms)

    def revoked(self) -> None:
        """Drop held acks: their batches are delivered again."""
        self.flushes.forget()

    async def apply(self, batch: RecordBatch) -> Backlog:
        """Decode a batch and apply it; write bad records to `dead-letters`."""
        part = self.partitions.get(batch.partition)
        for store, state in zip(self.stores, part.states, strict=True):
            await store.make_room(state)
        records = part.unseen(batch)
        events, offsets, sound = unpack_item_events([r.value for r in records], [r.offset for r in records])
        if len(events):
            await self._restore(part, events)
            self.partitions.check(part)
            part.apply(events, offsets + batch.base)
        part.seen(batch)
        if not sound.all():
            wrong = RejectedError("undecodable", "", "not packed item events of this version")
            bad = np.flatnonzero(~sound).tolist()
            await self.wiring.bury(FLOW.name, batch, [(records[i], wrong) for i in bad])
        return self._old.backlog(events["ts"], self.wiring.clock.now_ms())

    async def _restore(self, part: ItemPartition, events: npt.NDArray[np.void]) -> None:
        items, countries, pairs = part.states
        await self.items.restore(items, lambda: events["item"])
        await self.countries.restore(countries, lambda: places_of(events))
        await self.pairs.restore(pairs, lambda: events["item"])

    async def _show(self, durable: Durable) -> dict[int, list[Changes]]:
        self.items.state_store.check_lease()
        changed, changes = dict[int, PackedRows](), dict[int, list[Changes]]()
        for part in self.flushes.due(self.partitions, durable):
            changed[part.number] = part.take()
            if durable(part.number):
                changes[part.number] = part.changes(changed[part.number])
        await self.items.show(changed)
        return changes

    async def _save(self, changes: dict[int, list[Changes]]) -> None:
        # Neighbours change slowly: they go to the online store only in durable flushes.
        pairs = {number: every[2].rows for number, every in changes.items()}
        await all_of(write_last_first(self.stores, changes), self.pairs.show(pairs))
        for every in changes.values():
            for store, change in zip(self.stores, every, strict=True):
                store.written(change.partition)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = ItemStage(app, wiring)
    drive(app, wiring, FLOW, stage, partitions=stage.partitions)
    copies = [service for store in stage.stores for service in store.services()]
    return [*copies, AssignmentKeeper(stage.partitions, stage.flushes)]
