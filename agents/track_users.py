"""track_users: reads `events`, `users`, `impressions`; writes `item-events`, Redis; keeps rows of users.

The rows of users are in `user-state`, what users were shown is in `shown-state`. It also reads `items`, only
to write bad ones to `dead-letters`: every serving worker reads a bad item, but this group reads it once.
Records in the wrong partition are sent on to the right one.

The effects of a batch become durable in this order: item-events, then the rows (each has the offset it
reflects), then the commit. When a batch is delivered again, there are two cases. Either the rows have its
offset, and it changes nothing. Or they do not, and it makes the same item-events again, with the same
numbers; aggregate_items skips those.

Which pairs a click makes depends on whether its user was forgotten before it. So a tombstone is durable
before later events are applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import faust
from faust.types import TP
from mode import Service

from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.partitions.origins import Origins
from headrace.agents.partitions.users import Shown, UserPartition
from headrace.agents.stage.copied_store import CopiedStore, persist, write_last_first
from headrace.agents.stage.drive import all_of, drive, make_durable
from headrace.agents.stage.flushes import Durable, Flushes
from headrace.agents.stage.foreign_events import ForeignEvents
from headrace.agents.stage.forwarding import Forwarding, Taken
from headrace.agents.stage.item_events_out import ItemEventsOut
from headrace.agents.stage.partitions import AssignmentKeeper, StagePartitions
from headrace.agents.stage.placing import Placing, Reject, sent_on_again
from headrace.agents.wiring import Wiring
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.models.state.users import known
from headrace.serving.attributes import ItemAttributes
from headrace.serving.store.applied import Applied
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import EventBatch, Limits
from headrace.streams.messages.event_fields import RIGHT
from headrace.streams.messages.event_reader import EventReader, ReadEvents
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.tables.partition import U64, Changes
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics import flow
from headrace.streams.topics.grown_log import read_log_since
from headrace.streams.topics.growths import Segment
from headrace.streams.topics.tail import GatheringTail
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("track_users")


class UserStage:
    """Applies batches to the partitions that this process owns; writes changes to Kafka and Redis."""

    def __init__(self, app: faust.App, wiring: Wiring, catalog: CatalogFollower[ItemAttributes]) -> None:
        self.wiring = wiring
        self.catalog = catalog
        self._ends = app.monitor.tp_end_offsets
        s = self._settings = wiring.settings
        self.store = CopiedStore(
            app,
            wiring,
            wiring.topics.user_state,
            "u",
            visible=known,
            dtype=user_state.ROW,
            blank=user_state.BLANK[()],
            order=user_state.ORDER,
            lasting="has_profile",
        )
        self.lists = CopiedStore(
            app,
            wiring,
            wiring.topics.shown_state,
            "s",
            visible=shown_state.filled,
            dtype=shown_state.ROW,
            blank=shown_state.BLANK[()],
            order=shown_state.ORDER,
        )
        self.stores = [self.store, self.lists]
        self.partitions = StagePartitions(self.stores, lambda states: UserPartition(states, s))
        self.forwarding = Forwarding(wiring)
        self._placing = Placing(wiring, self.forwarding)
        self._item_events = ItemEventsOut(wiring.sender, wiring.topics.item_events)
        #: The last task that sends records on, and item-events. Each waits for the one before it.
        self._passing: asyncio.Task[None] | None = None
        intervals = s.flush_every_ms / 1000, s.durable_every_ms / 1000
        self.flushes = Flushes(self._show, self._save, *intervals, app.crash, wiring.clock)
        self._foreign = ForeignEvents(wiring)
        self._events = dict[int, EventReader]()  # by number of partitions
        self._users = Decoder(UserProfile, s.max_event_bytes)
        self._shown = Decoder(Shown, s.max_message_bytes)
        self._items = Decoder(Item, s.max_event_bytes)

    def revoked(self) -> None:
        """Drop held acks; note in every partition that another worker may own it meanwhile."""
        self.flushes.forget()
        self.partitions.resume()

    async def partition(self, batch: RecordBatch) -> UserPartition:
        """Return the partition of a batch; for a new one, first read the event ids of the dedup window."""
        topics = self.wiring.topics
        part = self.partitions.get(batch.partition)
        if batch.topic == topics.events and not part.continues(batch):
            part.remembers = part.dedup_off
        end = self._ends.get(TP(batch.topic, batch.partition), 0)
        for name in ("events", "impressions"):
            if batch.topic == getattr(topics, name):
                part.met_end(name, max(end, batch.last_offset + 1) + batch.base)
        if not part.remembers and batch.topic == topics.events:
            await self._remember(part, batch)
        return part

    async def _remember(self, part: UserPartition, batch: RecordBatch) -> None:
        """Read the event ids of the dedup window before ``batch``."""
        here = part.number, self._settings.partitions
        _, events = self._decode(here, (await self._foreign.read(batch.records)).records)
        if not events.right.any():
            return  # nothing that could be a retry: the next batch is looked at
        # No right event of the batch has an earlier stream time than the timestamp of the first one.
        first = int(events.timestamp[events.right][0])
        since = max(0, first - self._settings.dedup_window_ms)
        origins = Origins({})  # of the window alone

        async def remember(earlier: RecordBatch, segment: Segment) -> None:
            records = (await self._foreign.read(earlier.records)).records
            if len(records):
                place = segment.partition, segment.of
                decoded, events = self._decode(place, records)
                sent_on_again(batch.topic, decoded.records, events, origins)
                part.duplicates(records, events, place)

        def read() -> Awaitable[int]:
            self.store.state_store.partition(
                part.number
            )  # raises FencedError when another worker owns it now
            part.forget_events()
            log = batch.topic, batch.partition, part.growths
            return read_log_since(self._settings, *log, since, batch.first_offset, remember)

        await persist(read)
        part.remembers = True

    def _decode(self, place: tuple[int, int], records: Sequence[Any]) -> tuple[ReadEvents, EventBatch]:
        """Decode events; ``place`` is the partition that they are in, and how many there were."""
        partition, count = place
        if count not in self._events:
            s = self._settings
            limits = Limits(count, s.lateness_ms, s.future_ms)
            self._events[count] = EventReader(s.max_event_bytes, limits)
        return self._events[count].read(records, partition, self.wiring.clock.now_ms())

    async def apply(self, batch: RecordBatch) -> None:
        """Decode a batch and apply it; write bad records to `dead-letters`."""
        topics = self.wiring.topics
        if batch.topic == topics.items:
            await self.wiring.bury(FLOW.name, batch, self._check_items(batch))
            self.partitions.get(batch.partition).seen(batch)  # nothing else is kept of it
            return
        if batch.topic == topics.events:
            await self._part(batch.partition)
        part = await self.partition(batch)
        for store, state in zip(self.stores, part.states, strict=True):
            await store.make_room(state)
        records = part.unseen(batch)
        if not records:
            return
        if batch.topic == topics.events:
            rejects = await self._apply_events(part, batch, records)
        elif batch.topic == topics.impressions:
            shown = self._shown.batch(records)
            await self._restore(part, [i.user_id for i in shown.values])
            part.shown(shown.values, shown.records, batch.base)
            rejects = shown.rejects
        elif batch.topic == topics.users:
            rejects = await self._apply_profiles(part, batch, records)
        else:
            raise ValueError(f"{batch.topic} is none of the topics of {FLOW.name}")
        part.seen(batch)
        await self.wiring.bury(FLOW.name, batch, rejects)

    async def _part(self, number: int) -> None:
        """Make the tombstones of a partition durable."""
        if self.partitions.get(number).parted:
            await make_durable(self.flushes, self.partitions, number)
            self.partitions.get(number).parted = False

    async def _apply_events(
        self, part: UserPartition, batch: RecordBatch, records: Sequence[Any]
    ) -> list[Reject]:
        told = await self._foreign.read(records, count=True)
        if not len(told.records):
            self.partitions.check(part)
            return []
        decoded, events = self._decode((batch.partition, self._settings.partitions), told.records)
        await self.store.restore(part.state, lambda: events.columns.user)
        self.partitions.check(part)  # from here on nothing is awaited: a batch is applied as a whole or not
        rejects = self._placing.events(batch, decoded, events, part.origins)
        part.events(told.records, events, self.catalog.catalog, batch.base)
        return told.letters(rejects)

    async def _apply_profiles(
        self, part: UserPartition, batch: RecordBatch, records: Sequence[Any]
    ) -> list[Reject]:
        """Apply profiles and delete users with a tombstone, in offset order; return the rejects."""
        profiles = self._users.batch([r for r in records if not (r.value is None and r.key)])
        rejects = profiles.rejects
        given = {r.offset: p for r, p in zip(profiles.records, profiles.values, strict=True)}
        names = {r.offset: r.key.decode("utf-8", "replace") for r in records if r.value is None and r.key}
        names |= {offset: profile.user_id for offset, profile in given.items()}
        await self._restore(part, list(names.values()))
        for record in records:
            name = names.get(record.offset)
            if name is None:
                continue
            try:
                if self._placing.judge(batch, record, name, "user_id", part.origins) != RIGHT:
                    continue
            except RejectedError as exc:
                rejects.append((record, exc))
                continue
            part.user_record(name, given.get(record.offset), record, batch.base)
        return rejects

    def _check_items(self, batch: RecordBatch) -> list[Reject]:
        """Send items on that are in the wrong partition; return the bad ones."""
        items = self._items.batch([r for r in batch if not (r.value is None and r.key)])
        rejects = items.rejects
        named = [(r, i.item_id) for r, i in zip(items.records, items.values, strict=True)]
        named += [(r, r.key.decode("utf-8", "replace")) for r in batch if r.value is None and r.key]
        for record, name in sorted(named, key=lambda pair: pair[0].offset):
            try:
                if record.value is not None:
                    self.catalog.catalog.check_id(hash64(name), name)
                self._placing.judge(batch, record, name, "item_id", None)
            except RejectedError as exc:
                rejects.append((record, exc))
        return rejects

    async def _restore(self, part: UserPartition, users: Sequence[str]) -> None:
        for store, state in zip(self.stores, part.states, strict=True):
            await store.restore(state, lambda: hash_many(users))
        self.partitions.check(part)

    # -- flushes

    async def _show(self, durable: Durable) -> dict[int, list[Changes]]:
        self.store.state_store.check_lease()
        users, shown, changes = dict[int, PackedRows](), dict[int, PackedRows](), dict[int, list[Changes]]()
        gone, empty = dict[int, list[int]](), dict[int, U64]()
        at_once, applied = list[int](), dict[int, Applied]()
        for part in self.flushes.due(self.partitions, durable):
            users[part.number], gone[part.number], items = part.take()
            shown[part.number], empty[part.number] = part.lists.take()
            if part.aside:
                at_once.append(part.number)
            applied[part.number] = part.applied()
            self._item_events.add(items)
            if durable(part.number):
                changes[part.number] = part.changes(users[part.number], shown[part.number])
        if self._item_events or self.forwarding:
            self._passing = asyncio.create_task(self._pass_on(self._passing, self.forwarding.take()))
            self._passing.add_done_callback(_noted)  # ``_save`` raises its error; after a stop nobody does
        for number, keys in gone.items():
            await self.store.hide(number, keys)
            await self.lists.hide(number, empty[number])
        await self.store.show(users)
        await self.store.say(applied, at_once)
        await self.lists.show(shown)
        return changes

    async def _save(self, changes: dict[int, list[Changes]]) -> None:
        if self._passing is not None:  # item-events must be durable before the rows that caused them
            await self._passing
        await write_last_first(self.stores, changes)
        for every in changes.values():
            for store, change in zip(self.stores, every, strict=True):
                store.written(change.partition)

    async def _pass_on(self, before: asyncio.Task[None] | None, forwarded: Taken) -> None:
        """Send records on, and item-events, after the task ``before``; raise its error when it failed."""
        if before is not None:
            await before
        await all_of(self.forwarding.send(forwarded), self._item_events.send())


def _noted(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    catalog = CatalogFollower(ItemAttributes(), max_bytes=wiring.settings.max_event_bytes)
    stage = UserStage(app, wiring, catalog)

    async def follow(batches: list[RecordBatch]) -> None:
        await catalog.follow(batches, wiring, answering=items.caught_up.is_set)

    items = GatheringTail(wiring.settings, [wiring.topics.items], follow, name="items")
    drive(app, wiring, FLOW, stage, ready=items.caught_up.wait, partitions=stage.partitions)
    copies = [service for store in stage.stores for service in store.services()]
    return [items, *copies, AssignmentKeeper(stage.partitions, stage.flushes)]
