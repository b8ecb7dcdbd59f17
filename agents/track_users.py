"""track_users: reads `events`, `users`, `impressions`; writes `item-events`, `user-state`, Redis.

It also reads `items`, only to bury the bad ones: serving workers all meet them, this group meets each once.

It keeps the rows of users. What a batch causes becomes durable in this order: item-events, then the rows
(which carry the offset they reflect), then the commit. A batch delivered again finds either rows that
know it, or rows that make the same item-events of it, which the aggregator knows by their numbers.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import faust
import msgspec
import numpy as np
import numpy.typing as npt
from mode import Service

from agents.follow_catalog import CatalogFollower, check_item
from agents.wiring import Flusher, StoreWriter, Wiring
from models.neighbours import both_ways
from models.user_state import SEQ_STEP, Applied, UserState
from streams.codec import Decoder, check_key
from streams.columns import ITEM_EVENT, KIND, event_columns, pack_item_events
from streams.dedup import DedupWindow
from streams.ids import hash64, hash_many
from streams.schemas import Event, Item, Millis, UserProfile, check_event
from streams.sender import OutRecord
from streams.tail import Tail, read_partition
from streams.transport import RecordBatch, batch_topic, manual

NAME = "track_users"
#: Impressions are another source of `item-events` than events of the same partition.
SHOWN_SOURCE = 1 << 15
#: Slots of one impression; its records are numbered within it.
MAX_SLOTS = 512
_COUNTED = np.isin(
    np.arange(len(KIND)), [KIND[k] for k in ("shown", "click", "skip", "dwell", "like", "save")]
)


class Shown(msgspec.Struct):
    """The part of an impression this agent needs."""

    user_id: str
    ts: Millis
    country: str
    item_ids: Annotated[list[str], msgspec.Meta(max_length=MAX_SLOTS)]


class Partition:
    """State of one partition, and what of it is not durable yet. Pure: no broker, no clock."""

    def __init__(self, number: int, settings: Any) -> None:
        self.number = number
        self.users = UserState(settings.session_gap_ms)
        self.dedup = DedupWindow(settings.dedup_window_ms)
        self.dirty: set[int] = set()
        self.forgotten: set[int] = set()
        self.out: list[npt.NDArray[np.void]] = []

    def events(self, events: list[Event], records: list[Any], catalog: CatalogFollower) -> None:
        """Apply accepted events."""
        if not events:
            return
        fresh = self.dedup.fresh([e.event_id for e in events], max(e.ts for e in events))
        columns = event_columns(events, [r.offset for r in records])
        if not fresh.all():
            columns = columns.where(fresh)
        columns.category, columns.creator = catalog.catalog.attributes(columns.item)
        applied = self.users.apply(columns)
        self.dirty.update(applied.rows.tolist())
        self.out.append(self._item_events(applied))

    def _item_events(self, applied: Applied) -> npt.NDArray[np.void]:
        events = applied.events
        out = np.zeros(len(events), ITEM_EVENT)
        out["item"], out["country"], out["ts"], out["kind"] = (
            events.item,
            events.country,
            events.ts,
            events.kind,
        )
        out["amount"] = np.where(events.kind == KIND["dwell"], events.dwell_s, 1)
        out["source_seq"] = events.offset * SEQ_STEP
        out = np.concatenate([out[_COUNTED[events.kind]], both_ways(applied.pairs)])
        out["source_partition"] = self.number
        return out

    def shown(self, impressions: list[Shown], records: list[Any]) -> None:
        """Count impressions, for the users and for the items."""
        if not impressions:
            return
        offsets = np.array([r.offset for r in records], np.int64)
        users = hash_many([i.user_id for i in impressions])
        slots = np.array([len(i.item_ids) for i in impressions], np.int64)
        ts = np.array([i.ts for i in impressions], np.int64)
        rows, fresh = self.users.shown(users, slots.astype(np.float32), ts, offsets)
        self.dirty.update(rows.tolist())
        out = np.zeros(int(slots.sum()), ITEM_EVENT)
        out["item"] = hash_many([item for i in impressions for item in i.item_ids])
        out["country"] = np.repeat(hash_many([i.country for i in impressions]), slots)
        out["ts"] = np.repeat(ts, slots)
        out["amount"] = 1
        out["kind"] = KIND["shown"]
        within = np.arange(len(out)) - np.repeat(np.cumsum(slots) - slots, slots)
        out["source_seq"] = np.repeat(offsets, slots) * MAX_SLOTS + within
        out["source_partition"] = self.number + SHOWN_SOURCE
        self.out.append(out[np.repeat(fresh, slots)])

    def profile(self, profile: UserProfile) -> None:
        """Take over a profile."""
        row = self.users.profile(profile)
        self.dirty.add(row)
        self.forgotten.discard(hash64(profile.user_id))

    def forget(self, user_id: str) -> None:
        """Drop everything known about a user."""
        key = hash64(user_id)
        row = self.users.table.row(key)
        self.dirty.discard(row)
        self.users.table.drop([key])
        self.forgotten.add(key)

    def take(self) -> tuple[list[int], list[bytes], list[int], npt.NDArray[np.void]]:
        """Return and reset what is not durable: keys and rows, keys to forget, item-events in order."""
        rows = np.array(sorted(self.dirty), np.int64)
        keys = self.users.table.data["key"][rows].tolist()
        packed = self.users.table.pack(rows)
        gone = sorted(self.forgotten)
        out = np.concatenate(self.out) if self.out else np.zeros(0, ITEM_EVENT)
        # The aggregator tells a replay by numbers that do not grow.
        out = out[np.lexsort((out["source_seq"], out["source_partition"]))]
        self.dirty, self.forgotten, self.out = set(), set(), []
        return keys, packed, gone, out


class UserStage:
    """The partitions this process owns, and their way to Kafka and Redis."""

    def __init__(self, wiring: Wiring, catalog: CatalogFollower) -> None:
        self.wiring = wiring
        self.catalog = catalog
        self.partitions: dict[int, Partition] = {}
        self.flusher = Flusher(self._write, wiring.settings.flush_every_ms / 1000)
        self._store = StoreWriter(wiring.store)
        s = wiring.settings
        self._events = Decoder(Event, s.max_event_bytes, self._check_event)
        self._users = Decoder(UserProfile, s.max_event_bytes, lambda u, r: check_key(r, "user_id", u.user_id))
        self._shown = Decoder(Shown, s.max_message_bytes)
        self._items = Decoder(Item, s.max_event_bytes, check_item)

    def _check_event(self, event: Event, record: Any) -> None:
        check_key(record, "user_id", event.user_id)
        check_event(event, record.timestamp, self.wiring.settings.lateness_ms, self.wiring.settings.future_ms)

    async def partition(self, number: int) -> Partition:
        """Return a partition's state, read back from its changelog when it is new here."""
        part = self.partitions.get(number)
        if part is None:
            async with self.flusher.locked():
                part = Partition(number, self.wiring.settings)
                table = part.users.table

                def apply(records: RecordBatch) -> None:
                    last = {r.key: r.value for r in records}  # somebody forgotten may have come back
                    table.load([row for row in last.values() if row is not None])
                    table.drop(int.from_bytes(key, "little") for key, row in last.items() if row is None)

                await read_partition(self.wiring.settings, self.wiring.topics.user_state, number, apply)
                self.partitions[number] = part
        return part

    def revoked(self) -> None:
        """Forget all state: every partition is assigned anew, and read back by whoever gets it."""
        self.partitions.clear()
        self.flusher.forget()

    async def apply(self, batch: RecordBatch) -> None:
        """Decode a batch and apply it."""
        topics = self.wiring.topics
        if batch.topic == topics.items:
            bad = self._items.batch([r for r in batch if r.value is not None]).rejects
            await self.wiring.bury(NAME, batch, bad)
            return
        part = await self.partition(batch.partition)
        if batch.topic == topics.events:
            decoded = self._events.batch(batch.records)
            part.events(decoded.values, decoded.records, self.catalog)
            rejects = decoded.rejects
        elif batch.topic == topics.impressions:
            shown = self._shown.batch(batch.records)
            part.shown(shown.values, shown.records)
            rejects = shown.rejects
        else:
            for record in batch:
                if record.value is None and record.key:
                    part.forget(record.key.decode("utf-8", "replace"))
            profiles = self._users.batch([r for r in batch if not (r.value is None and r.key)])
            for profile in profiles.values:
                part.profile(profile)
            rejects = profiles.rejects
        await self.wiring.bury(NAME, batch, rejects)

    async def _write(self) -> None:
        taken = [(part.number, *part.take()) for part in self.partitions.values()]
        topics, sender = self.wiring.topics, self.wiring.sender
        # 1. item-events
        every = [out for *_, out in taken if len(out)]
        if every:
            await self._send_item_events(np.concatenate(every))
        # 2. the rows
        writes = []
        for number, keys, rows, gone, _ in taken:
            # Somebody forgotten may have come back since: the row goes after the tombstone.
            records: list[OutRecord] = [(key.to_bytes(8, "little"), None, None, ()) for key in gone]
            records += [
                (key.to_bytes(8, "little"), row, None, ()) for key, row in zip(keys, rows, strict=True)
            ]
            if records:
                writes.append(sender.send_many(topics.user_state, records, partition=number))
        await asyncio.gather(*writes)
        # 3. the online store
        for _, keys, rows, gone, _ in taken:
            if gone:
                await self._store.drop("u", gone)
            if keys:
                await self._store.put("u", keys, rows)

    async def _send_item_events(self, out: npt.NDArray[np.void]) -> None:
        topic, sender = self.wiring.topics.item_events, self.wiring.sender
        count = await sender.partitions_of(topic)
        target = out["item"] % np.uint64(count)
        writes = []
        for number in np.unique(target).tolist():
            records: list[OutRecord] = [(None, v, None, ()) for v in pack_item_events(out[target == number])]
            writes.append(sender.send_many(topic, records, partition=int(number)))
        await asyncio.gather(*writes)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    catalog = CatalogFollower()
    stage = UserStage(wiring, catalog)
    t = wiring.topics
    items = Tail(wiring.settings, [t.items], catalog.apply, name="items")

    @app.agent(batch_topic(app, t.users, t.events, t.impressions, t.items), name=NAME)
    async def track_users(stream: Any) -> None:
        await items.caught_up.wait()
        async for batch, ack in manual(stream):
            await stage.apply(batch)
            await stage.flusher.hold(ack)

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, revoked: Any, **_: Any) -> None:
        stage.revoked()

    return [items]
