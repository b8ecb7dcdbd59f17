"""track_users: reads `events`, `users`, `impressions`; writes `item-events`, `user-state`, Redis.

It also reads `items`, only to write bad ones to `dead-letters`: every serving worker reads a bad item, but
this group reads it once.

It keeps the rows of users. The effects of a batch become durable in this order: item-events, then the rows
(each has the offset it reflects), then the commit. When a batch is delivered again, there are two cases.
Either the rows have its offset, and it changes nothing. Or they do not, and it makes the same item-events
again, with the same numbers; aggregate_items skips those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import faust
import numpy as np
import numpy.typing as npt
from mode import Service

from headrace.agents.follow_catalog import CatalogFollower, check_item
from headrace.agents.partitions.users import Shown, UserPartition
from headrace.agents.stage.copied_store import CopiedStore, persist
from headrace.agents.stage.drive import drive
from headrace.agents.stage.flushes import Durable, Flushes
from headrace.agents.stage.partitions import AssignmentKeeper, StagePartitions
from headrace.agents.wiring import Wiring
from headrace.models.state import users as user_state
from headrace.models.state.item_events import split_item_events
from headrace.models.state.users import known
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.columns import PACKED
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, Item, UserProfile, check_event
from headrace.streams.tables.partition import Changes
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics import flow
from headrace.streams.topics.reader import read_since
from headrace.streams.topics.tail import Tail
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("track_users")


class UserStage:
    """Applies batches to the partitions that this process owns; writes changes to Kafka and Redis."""

    def __init__(self, app: faust.App, wiring: Wiring, catalog: CatalogFollower) -> None:
        self.wiring = wiring
        self.catalog = catalog
        s = self._settings = wiring.settings
        self.store = CopiedStore(
            app,
            wiring,
            wiring.topics.user_state,
            "u",
            visible=known,
            dtype=user_state.ROW,
            blank=user_state.BLANK[()],
            order=("offset", "shown_offset"),
            lasting="has_profile",
        )
        self.partitions = StagePartitions([self.store], lambda states: UserPartition(states, s))
        self._out: list[npt.NDArray[np.void]] = []  # item-events not sent yet, in order
        #: The last task that sends item-events. Each waits for the one before it.
        self._passing: asyncio.Task[None] | None = None
        intervals = s.flush_every_ms / 1000, s.durable_every_ms / 1000
        self.flushes = Flushes(self._show, self._save, *intervals, app.crash, wiring.clock)
        self._events = Decoder(Event, s.max_event_bytes, self._check_event)
        self._users = Decoder(UserProfile, s.max_event_bytes, lambda u, r: check_key(r, "user_id", u.user_id))
        self._shown = Decoder(Shown, s.max_message_bytes)
        self._items = Decoder(Item, s.max_event_bytes, check_item)

    def revoked(self) -> None:
        """Drop held acks; note in every partition that another worker may own it meanwhile."""
        self.flushes.forget()
        self.partitions.resume()

    def _check_event(self, event: Event, record: Any) -> None:
        check_key(record, "user_id", event.user_id)
        check_event(event, record.timestamp, self._settings.lateness_ms, self._settings.future_ms)

    async def partition(self, batch: RecordBatch) -> UserPartition:
        """Return the partition of a batch; for a new one, first read the event ids of the dedup window."""
        part = self.partitions.get(batch.partition)
        if batch.topic == self.wiring.topics.events and not part.continues(batch):
            part.remembers = part.dedup_off
        if not part.remembers and batch.topic == self.wiring.topics.events:
            since = int(batch.records[0].timestamp) - self._settings.dedup_window_ms

            def remember(earlier: RecordBatch) -> None:
                part.duplicates(earlier.records, self._events.batch(earlier.records))

            def read() -> Awaitable[int]:
                self.store.state_store.partition(
                    part.number
                )  # raises FencedError when another worker owns it now
                part.forget_events()
                before = batch.first_offset
                return read_since(self._settings, batch.topic, batch.partition, since, before, remember)

            await persist(read)
            part.remembers = True
        return part

    async def apply(self, batch: RecordBatch) -> None:
        """Decode a batch and apply it; write bad records to `dead-letters`."""
        topics = self.wiring.topics
        if batch.topic == topics.items:
            bad = self._items.batch([r for r in batch if r.value is not None]).rejects
            await self.wiring.bury(FLOW.name, batch, bad)
            return
        part = await self.partition(batch)
        await self.store.make_room(part.state)
        records = part.unseen(batch)
        if not records:
            return
        if batch.topic == topics.events:
            decoded = self._events.batch(records)
            await self._restore(part, [e.user_id for e in decoded.values])
            part.events(records, decoded, self.catalog)
            rejects = decoded.rejects
        elif batch.topic == topics.impressions:
            shown = self._shown.batch(records)
            await self._restore(part, [i.user_id for i in shown.values])
            part.shown(shown.values, shown.records)
            rejects = shown.rejects
        else:
            rejects = await self._profiles(part, records)
        part.seen(batch)
        await self.wiring.bury(FLOW.name, batch, rejects)

    async def _profiles(self, part: UserPartition, records: Sequence[Any]) -> list[Any]:
        """Apply profiles and delete users with a tombstone, in offset order; return the rejects."""
        profiles = self._users.batch([r for r in records if not (r.value is None and r.key)])
        given = {r.offset: p for r, p in zip(profiles.records, profiles.values, strict=True)}
        gone = {r.offset: r.key.decode("utf-8", "replace") for r in records if r.value is None and r.key}
        await self._restore(part, [*gone.values(), *(p.user_id for p in profiles.values)])
        for offset in sorted(given.keys() | gone.keys()):
            if offset in gone:
                part.forget(hash64(gone[offset]))
            else:
                part.profile(given[offset])
        return profiles.rejects

    async def _restore(self, part: UserPartition, users: Sequence[str]) -> None:
        await self.store.restore(part.state, lambda: hash_many(users))

    async def _show(self, durable: Durable) -> dict[int, Changes]:
        self.store.state_store.check_lease()
        changed, gone, changes = dict[int, PackedRows](), dict[int, list[int]](), dict[int, Changes]()
        for part in self.partitions:
            changed[part.number], gone[part.number], items = part.take()
            self._out.extend(items)
            if durable(part.number):
                changes[part.number] = part.state.take()
        if self._out:
            self._passing = asyncio.create_task(self._pass_on(self._passing))
            self._passing.add_done_callback(_noted)  # ``_save`` raises its error; after a stop nobody does
        for number, keys in gone.items():
            await self.store.hide(number, keys)
        await self.store.show(changed)
        return changes

    async def _save(self, changes: dict[int, Changes]) -> None:
        if self._passing is not None:  # item-events must be durable before the rows that caused them
            await self._passing
        await self.store.state_store.write(changes)
        for change in changes.values():
            self.store.written(change.partition)

    async def _pass_on(self, before: asyncio.Task[None] | None) -> None:
        """Send item-events after the task ``before``; when that failed, fail with its error."""
        if before is not None:
            await before
        out, self._out = self._out, []  # also those of flushes since this task was made
        if out:
            await self._send_item_events(out)

    async def _send_item_events(self, out: list[npt.NDArray[np.void]]) -> None:
        topic, sender = self.wiring.topics.item_events, self.wiring.sender
        events, sizes = split_item_events(out, await sender.partitions_of(topic))
        writes, start = [], 0
        for number, size in enumerate(sizes.tolist()):
            if size:
                piece = events[start : start + size]
                writes.append(sender.send_pieces(topic, piece, PACKED, partition=number))
            start += size
        await asyncio.gather(*writes)


def _noted(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    catalog = CatalogFollower(max_bytes=wiring.settings.max_event_bytes)
    stage = UserStage(app, wiring, catalog)
    items = Tail(wiring.settings, [wiring.topics.items], catalog.apply, name="items")
    drive(app, wiring, FLOW, stage, ready=items.caught_up.wait)
    return [items, *stage.store.services(), AssignmentKeeper(stage.partitions)]
