"""track_users: reads `events`, `users`, `impressions`; writes `item-events`, `user-state`, Redis.

It also reads `items`, only to bury the bad ones: serving workers all meet them, this group meets each once.

It keeps the rows of users. What a batch causes becomes durable in this order: item-events, then the rows
(which carry the offset they reflect), then the commit. A batch delivered again finds either rows that
know it, or rows that make the same item-events of it, which the aggregator knows by their numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any

import faust
import msgspec
import numpy as np
import numpy.typing as npt
from mode import Service

from headrace.agents.follow_catalog import CatalogFollower, check_item
from headrace.agents.stage.beats import Beats, Durable
from headrace.agents.stage.partitions import (
    AssignmentKeeper,
    StagePartition,
    StagePartitions,
    StageStore,
    persist,
    work,
)
from headrace.agents.wiring import Wiring
from headrace.models.state import users as user_state
from headrace.models.state.item_events import split_item_events
from headrace.models.state.users import UserState, item_events, known
from headrace.streams.dedup import DedupWindow, stream_times
from headrace.streams.messages.codec import Decoded, Decoder, check_key
from headrace.streams.messages.columns import ITEM_EVENT, KIND, PACKED, event_columns
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, Id, Item, Millis, UserProfile, check_event
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import Changes, StatePartition
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.history import read_since
from headrace.streams.topics.reader import Tail
from headrace.streams.transport.consumer import RecordBatch, batch_topic

NAME = "track_users"
#: Impressions are another source of `item-events` than events of the same partition.
SHOWN_SOURCE = 1 << 15
#: Slots of one impression; its records are numbered within it.
MAX_SLOTS = 512

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class Shown(msgspec.Struct):
    """The part of an impression this agent needs."""

    user_id: Id
    ts: Millis
    country: str
    item_ids: Annotated[list[Id], msgspec.Meta(max_length=MAX_SLOTS)]


class UserPartition(StagePartition):
    """State of one partition, and what of it was not passed on yet. Pure: no broker, no clock."""

    def __init__(self, states: Sequence[StatePartition], settings: Settings) -> None:
        super().__init__(states)
        self.state = states[0]
        self.users = UserState(self.state.rows, settings.session_gap_ms)
        self._window_ms = settings.dedup_window_ms
        self.dedup = DedupWindow(self._window_ms)
        self.dedup_off = self.remembers = settings.dedup_window_ms == 0
        self._newest = -1  # stream time: the largest record timestamp so far
        self._touched: list[I64] = []
        self._forgotten: set[int] = set()
        self._out: list[npt.NDArray[np.void]] = []

    def forget_events(self) -> None:
        """Forget which events were seen: they are about to be read again."""
        self.dedup = DedupWindow(self._window_ms)
        self._newest = -1

    def duplicates(self, records: Sequence[Any], decoded: Decoded[Event]) -> npt.NDArray[np.bool_]:
        """Return which of the decoded events are retries, bool ``(n,)``; remember all of them.

        ``records`` is what was decoded, bad ones included: they, too, tell the time.
        """
        times = stream_times(np.array([r.timestamp for r in records], np.int64), self._newest)
        self._newest = int(times[-1])
        if len(decoded.records) != len(records):
            offsets = np.array([r.offset for r in records], np.int64)
            times = times[np.searchsorted(offsets, [r.offset for r in decoded.records])]
        return ~self.dedup.fresh(hash_many([e.event_id for e in decoded.values]), times)

    def events(self, records: Sequence[Any], decoded: Decoded[Event], catalog: CatalogFollower) -> None:
        """Apply decoded events."""
        retry = self.duplicates(records, decoded)
        if not decoded.values:
            return
        columns = event_columns(decoded.values, [r.offset for r in decoded.records])
        if retry.any():
            columns = columns.where(~retry)
        columns.category, columns.creator = catalog.catalog.attributes(columns.item)
        applied = self.users.apply(columns)
        self._touch(applied.rows)
        self._out.append(item_events(applied, self.number))

    def shown(self, impressions: list[Shown], records: Sequence[Any]) -> None:
        """Count impressions, for the users and for the items."""
        if not impressions:
            return
        offsets = np.array([r.offset for r in records], np.int64)
        users = hash_many([i.user_id for i in impressions])
        slots = np.array([len(i.item_ids) for i in impressions], np.int64)
        ts = np.array([i.ts for i in impressions], np.int64)
        rows, fresh = self.users.shown(users, slots, ts, offsets)
        self._touch(rows)
        out = np.zeros(int(slots.sum()), ITEM_EVENT)
        out["item"] = hash_many([item for i in impressions for item in i.item_ids])
        out["country"] = np.repeat(hash_many([i.country for i in impressions]), slots)
        out["ts"] = np.repeat(ts, slots)
        out["amount"] = 1
        out["kind"] = KIND["shown"]
        within = np.arange(len(out)) - np.repeat(np.cumsum(slots) - slots, slots)
        out["source_seq"] = np.repeat(offsets, slots) * MAX_SLOTS + within
        out["source_partition"] = self.number + SHOWN_SOURCE
        self._out.append(out[np.repeat(fresh, slots)])

    def profile(self, profile: UserProfile) -> None:
        """Take over a profile."""
        self._touch(np.array([self.users.profile(profile)], np.int64))
        self._forgotten.discard(hash64(profile.user_id))

    def forget(self, key: int) -> None:
        """Drop everything known about a user."""
        row = self.users.forget(key)
        if row >= 0:
            self._touch(np.array([row], np.int64))
        self._forgotten.add(key)

    def _touch(self, rows: I64) -> None:
        self._touched.append(rows)
        self.state.touch(rows)

    def take(self) -> tuple[PackedRows, list[int], list[npt.NDArray[np.void]]]:
        """Return and reset what was not passed on: rows, keys to forget, item-events in order."""
        rows = np.unique(np.concatenate(self._touched)) if self._touched else np.zeros(0, np.int64)
        keys = self.state.rows.data["key"][rows]
        gone = sorted(self._forgotten)
        there = keys != 0
        if gone:
            there &= ~np.isin(keys, np.array(gone, np.uint64))
        if not there.all():
            rows = rows[there]
        out, self._out = self._out, []  # numbers of a source grow along it: so a replay is told
        self._touched, self._forgotten = [], set()
        return self.state.rows.pack(rows), gone, out


class UserStage:
    """The partitions this process owns, and their way to Kafka and Redis."""

    def __init__(self, app: faust.App, wiring: Wiring, catalog: CatalogFollower) -> None:
        self.wiring = wiring
        self.catalog = catalog
        s = self._settings = wiring.settings
        self.shelf = StageStore(
            app,
            wiring,
            wiring.topics.user_state,
            "u",
            visible=known,
            dtype=user_state.ROW,
            blank=user_state.BLANK[()],
            order=("offset", "shown_offset"),
        )
        self.partitions = StagePartitions([self.shelf], lambda states: UserPartition(states, s))
        self._out: list[npt.NDArray[np.void]] = []  # item-events, in order
        #: Their way to Kafka: the last of a chain in which each waits for the one before.
        self._passing: asyncio.Task[None] | None = None
        rhythms = s.flush_every_ms / 1000, s.durable_every_ms / 1000
        self.beats = Beats(self._show, self._save, *rhythms, app.crash)
        self._events = Decoder(Event, s.max_event_bytes, self._check_event)
        self._users = Decoder(UserProfile, s.max_event_bytes, lambda u, r: check_key(r, "user_id", u.user_id))
        self._shown = Decoder(Shown, s.max_message_bytes)
        self._items = Decoder(Item, s.max_event_bytes, check_item)

    def _check_event(self, event: Event, record: Any) -> None:
        check_key(record, "user_id", event.user_id)
        check_event(event, record.timestamp, self._settings.lateness_ms, self._settings.future_ms)

    async def partition(self, batch: RecordBatch) -> UserPartition:
        """Return the partition a batch belongs to; a new one learns which events it has seen of late."""
        part = self.partitions.get(batch.partition)
        if batch.topic == self.wiring.topics.events and not part.continues(batch):
            part.remembers = part.dedup_off
        if not part.remembers and batch.topic == self.wiring.topics.events:
            since = int(batch.records[0].timestamp) - self._settings.dedup_window_ms

            def remember(earlier: RecordBatch) -> None:
                part.duplicates(earlier.records, self._events.batch(earlier.records))

            def read() -> Awaitable[int]:
                self.shelf.table.partition(part.number)  # or it is somebody else's by now
                part.forget_events()
                before = batch.first_offset
                return read_since(self._settings, batch.topic, batch.partition, since, before, remember)

            await persist(read)
            part.remembers = True
        return part

    async def apply(self, batch: RecordBatch) -> None:
        """Decode a batch and apply it."""
        topics = self.wiring.topics
        if batch.topic == topics.items:
            bad = self._items.batch([r for r in batch if r.value is not None]).rejects
            await self.wiring.bury(NAME, batch, bad)
            return
        part = await self.partition(batch)
        await self.shelf.tidy(part.state)
        records = part.unseen(batch)
        if not records:
            return
        if batch.topic == topics.events:
            decoded = self._events.batch(records)
            await self._bring_back(part, [e.user_id for e in decoded.values])
            part.events(records, decoded, self.catalog)
            rejects = decoded.rejects
        elif batch.topic == topics.impressions:
            shown = self._shown.batch(records)
            await self._bring_back(part, [i.user_id for i in shown.values])
            part.shown(shown.values, shown.records)
            rejects = shown.rejects
        else:
            rejects = await self._profiles(part, records)
        part.seen(batch)
        await self.wiring.bury(NAME, batch, rejects)

    async def _profiles(self, part: UserPartition, records: Sequence[Any]) -> list[Any]:
        """Apply profiles, and forget users whose record is null, in their order."""
        profiles = self._users.batch([r for r in records if not (r.value is None and r.key)])
        told = {r.offset: p for r, p in zip(profiles.records, profiles.values, strict=True)}
        gone = {r.offset: r.key.decode("utf-8", "replace") for r in records if r.value is None and r.key}
        await self._bring_back(part, [*gone.values(), *(p.user_id for p in profiles.values)])
        for offset in sorted(told.keys() | gone.keys()):
            if offset in gone:
                part.forget(hash64(gone[offset]))
            else:
                part.profile(told[offset])
        return profiles.rejects

    async def _bring_back(self, part: UserPartition, users: Sequence[str]) -> None:
        await self.shelf.bring_back(part.state, lambda: hash_many(users))

    async def _show(self, durable: Durable) -> dict[int, Changes]:
        self.shelf.table.check_lease()
        changed, gone, changes = dict[int, PackedRows](), dict[int, list[int]](), dict[int, Changes]()
        for part in self.partitions:
            changed[part.number], gone[part.number], items = part.take()
            self._out.extend(items)
            if durable(part.number):
                changes[part.number] = part.state.take()
        if self._out:
            self._passing = asyncio.create_task(self._pass_on(self._passing))
            self._passing.add_done_callback(_noted)  # ``_save`` raises it; a worker that stops need not
        for number, keys in gone.items():
            await self.shelf.hide(number, keys)
        await self.shelf.show(changed)
        return changes

    async def _save(self, changes: dict[int, Changes]) -> None:
        if self._passing is not None:  # a row stands for the item-events it has caused
            await self._passing
        await self.shelf.table.write(changes)
        for change in changes.values():
            self.shelf.settle(change.partition)

    async def _pass_on(self, before: asyncio.Task[None] | None) -> None:
        """Send item-events, after those of earlier beats; once some have failed, so do all that follow."""
        if before is not None:
            await before
        out, self._out = self._out, []  # those of later beats, too, if there were some meanwhile
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
    t = wiring.topics
    items = Tail(wiring.settings, [t.items], catalog.apply, name="items")

    @app.agent(batch_topic(app, t.users, t.events, t.impressions, t.items), name=NAME)
    async def track_users(stream: Any) -> None:
        await items.caught_up.wait()
        await work(app, stream, stage)

    app.last_writes.append(stage.beats.finish)

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, revoked: Any, **_: Any) -> None:
        stage.beats.forget()
        stage.partitions.resume()

    return [items, *stage.shelf.services(), AssignmentKeeper(stage.partitions)]
