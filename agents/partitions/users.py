"""Users of one partition: applies events, impressions and profiles to their rows; makes item events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.partitions import StagePartition
from headrace.models.state.users import UserState, item_events
from headrace.streams.dedup import DedupWindow, stream_times
from headrace.streams.messages.codec import Decoded
from headrace.streams.messages.columns import ITEM_EVENT, KIND, event_columns
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, Id, Millis, UserProfile
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows

#: Added to the partition to get the source number of item events from impressions: events of the same
#: partition are another source.
SHOWN_SOURCE = 1 << 15
#: Most slots of one impression. The ``source_seq`` of a slot is offset * ``MAX_SLOTS`` + position.
MAX_SLOTS = 512

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class Shown(msgspec.Struct):
    """The fields of an impression that this agent needs."""

    user_id: Id
    ts: Millis
    country: str
    item_ids: Annotated[list[Id], msgspec.Meta(max_length=MAX_SLOTS)]


class UserPartition(StagePartition):
    """Rows of one partition, and what is not in the online store or in `item-events` yet. Pure.

    Attributes
    ----------
    state
        The partition of the state store of users.
    users
        Updates of the rows.
    dedup
        Recent event ids.
    dedup_off
        Whether retries are not detected (``dedup_window_ms`` is 0).
    remembers
        Whether ``dedup`` has the events of the window. After a rebalance they are read again first.
    """

    def __init__(self, states: Sequence[StatePartition], settings: Settings) -> None:
        super().__init__(states)
        self.state = states[0]
        self.users = UserState(self.state.rows, settings.session_gap_ms)
        self._window_ms = settings.dedup_window_ms
        self.dedup = DedupWindow(self._window_ms)
        self.dedup_off = self.remembers = settings.dedup_window_ms == 0
        self._newest = -1  # stream time: the largest record timestamp of `events` so far, ms
        self._touched: list[I64] = []
        self._forgotten: set[int] = set()
        self._out: list[npt.NDArray[np.void]] = []

    def forget_events(self) -> None:
        """Forget the recent event ids, before the events are read again."""
        self.dedup = DedupWindow(self._window_ms)
        self._newest = -1

    def duplicates(self, records: Sequence[Any], decoded: Decoded[Event]) -> npt.NDArray[np.bool_]:
        """Return which decoded events are retries, bool ``(n,)``; note the ids of all of them.

        ``records`` are the records of the batch, bad ones too: their timestamps count for the stream time.
        """
        times = stream_times(np.array([r.timestamp for r in records], np.int64), self._newest)
        self._newest = int(times[-1])
        if len(decoded.records) != len(records):
            offsets = np.array([r.offset for r in records], np.int64)
            times = times[np.searchsorted(offsets, [r.offset for r in decoded.records])]
        return ~self.dedup.fresh(hash_many([e.event_id for e in decoded.values]), times)

    def events(self, records: Sequence[Any], decoded: Decoded[Event], catalog: CatalogFollower) -> None:
        """Apply decoded events that are not retries; make their item events."""
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
        """Count impressions in the rows of users, and make item events of their slots."""
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
        """Set the profile of a user."""
        self._touch(np.array([self.users.profile(profile)], np.int64))
        self._forgotten.discard(hash64(profile.user_id))

    def forget(self, key: int) -> None:
        """Delete the data of a user."""
        row = self.users.forget(key)
        if row >= 0:
            self._touch(np.array([row], np.int64))
        self._forgotten.add(key)

    def _touch(self, rows: I64) -> None:
        self._touched.append(rows)
        self.state.touch(rows)

    def take(self) -> tuple[PackedRows, list[int], list[npt.NDArray[np.void]]]:
        """Return changes since the last call: packed rows, keys of deleted users, item events in order."""
        rows = np.unique(np.concatenate(self._touched)) if self._touched else np.zeros(0, np.int64)
        keys = self.state.rows.data["key"][rows]
        gone = sorted(self._forgotten)
        there = keys != 0
        if gone:
            there &= ~np.isin(keys, np.array(gone, np.uint64))
        if not there.all():
            rows = rows[there]
        out, self._out = self._out, []  # in order: the consumer detects repeated events by growing numbers
        self._touched, self._forgotten = [], set()
        return self.state.rows.pack(rows), gone, out
