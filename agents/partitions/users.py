"""Users of one partition: applies events, impressions and profiles to their rows; makes item events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.agents.partitions.origins import Origins
from headrace.agents.partitions.shown_lists import ShownLists
from headrace.agents.stage.partitions import StagePartition
from headrace.models.state.users import PLACED, UserState, item_events, known
from headrace.serving.attributes import KnowsAttributes
from headrace.serving.store.applied import Applied
from headrace.streams.dedup import DedupWindow, stream_times
from headrace.streams.messages.ages import N_GROUPS
from headrace.streams.messages.columns import ITEM_EVENT, KIND, EventBatch
from headrace.streams.messages.event_fields import AGAIN, CLOCK
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Id, Millis, UserProfile
from headrace.streams.settings import Settings
from headrace.streams.tables.changes import rows_once
from headrace.streams.tables.partition import Changes, StatePartition
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.growths import Growths
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import misplaced
from headrace.streams.transport.record_list import chosen, offsets_of, timestamps_of

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
    age_group: Annotated[int, msgspec.Meta(ge=0, lt=N_GROUPS)] = 0


class UserPartition(StagePartition):
    """Rows of one partition, and what is not in the online store or in `item-events` yet. Pure.

    Parameters
    ----------
    states
        The partitions of the state stores of users, and of what they were shown, in this order.
    settings
        The settings.

    Attributes
    ----------
    state
        The partition of the state store of users.
    lists
        What users were shown.
    users
        Updates of the rows.
    origins
        Which records that were sent on from other partitions were applied.
    growths
        How often the partitions were made more, and where the logs were cut.
    dedup
        Recent event ids.
    dedup_off
        Whether retries are not detected (``dedup_window_ms`` is 0).
    remembers
        Whether ``dedup`` has the events of the window. After a rebalance they are read again first.
    parted
        Whether a user was forgotten since the partition was durable as a whole. Then it must be made durable
        before the next events: after a crash, the tombstone must not be applied at another place among them,
        because the pairs of their clicks were sent.
    aside
        Whether, since the last ``applied``, records were applied that no row tells of: the beat does.
    """

    def __init__(self, states: Sequence[StatePartition], settings: Settings) -> None:
        super().__init__(states)
        self.state, shown = states
        self.lists = ShownLists(shown)
        self.users = UserState(self.state.rows, settings.session_gap_ms)
        self.origins = Origins(self.state.meta)
        self.growths = Growths.of(self.state.meta)
        self._window_ms, self._partitions = settings.dedup_window_ms, settings.partitions
        self.dedup = DedupWindow(self._window_ms)
        self.dedup_off = self.remembers = settings.dedup_window_ms == 0
        self.parted = self.aside = False
        self._topics = Topics(settings)
        self._newest = 0  # stream time: the largest record timestamp of `events` so far, ms
        self._combined_from: dict[str, int] = {}  # see ``met_end``
        self._touched: list[I64] = []
        self._forgotten: set[int] = set()
        self._out: list[npt.NDArray[np.void]] = []

    # -- what was before this worker

    def resume(self) -> None:
        """Note a rebalance: another worker may have owned the partition meanwhile."""
        super().resume()
        self._combined_from.clear()

    def met_end(self, topic: str, end: int) -> None:
        """Note the end offset of a source topic, as seen after this worker has taken the partition over.

        A former owner may have sent item events of records before it, one by one or put together in another
        way. So item events of those records are sent alone: aggregate_items skips each one that it has.
        """
        self._combined_from.setdefault(topic, end)

    def forget_events(self) -> None:
        """Forget the recent event ids, before the events are read again."""
        self.dedup = DedupWindow(self._window_ms)
        self._newest = 0

    # -- events

    def duplicates(
        self, records: Sequence[Any], events: EventBatch, place: tuple[int, int] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which right events are retries, bool ``(m,)``; note the ids of all that count or came again.

        ``records`` are the records of the batch, bad ones too: their timestamps count for the stream time,
        except those of records in the wrong partition, or past the worker's clock. A record that was sent on
        twice counts: delivered again after a crash, the first copy looks like a second one. ``place`` is the
        partition that they are in, and how many there were; None: this one, and as many as there are now.
        """
        number, partitions = place or (self.number, self._partitions)
        timestamps, offsets = timestamps_of(records), offsets_of(records)
        again = events.verdict == AGAIN
        still = ~events.placed | (events.verdict == CLOCK)
        if len(events.verdict) == len(records):
            stays = still
        else:
            stays = np.isin(offsets, events.columns.offset[still])
            unread = ~np.isin(offsets, events.columns.offset)
            stays[unread] |= misplaced(chosen(records, unread), number, partitions)
        times = stream_times(np.where(stays, self._newest, timestamps), self._newest)
        self._newest = int(times[-1])
        if len(events.verdict) != len(records):
            times = times[np.searchsorted(offsets, events.columns.offset)]
        noted = events.right | again
        retry: npt.NDArray[np.bool_] = ~self.dedup.fresh(events.event_id[noted], times[noted])
        return np.asarray(retry[events.right[noted]])

    def events(
        self, records: Sequence[Any], events: EventBatch, catalog: KnowsAttributes, base: int = 0
    ) -> None:
        """Apply the right events that are not retries and were not sent on twice; make their item events.

        ``base`` makes effective offsets of the offsets of the records.
        """
        retry = self.duplicates(records, events)
        columns, right = events.columns, events.right
        self.aside |= len(columns) < len(records) or bool((~right | events.sent_on).any() or retry.any())
        if not right.all():
            columns = columns.where(right)
        if retry.any():
            columns = columns.where(~retry)
        if not len(columns):
            return
        columns.category, columns.creator = catalog.attributes(columns.item)
        columns.offset = columns.offset + base
        applied = self.users.apply(columns)
        if self._unplaced(applied.rows):
            at = np.searchsorted(offsets_of(records), columns.offset - base)
            self._place(columns.user, lambda new: [r.key for r in chosen(records, at[new])])
        self._touch(applied.rows)
        self._put_out(item_events(applied, self.number), "events", int(columns.offset[0]))

    def shown(self, impressions: list[Shown], records: Sequence[Any], base: int = 0) -> None:
        """Put impressions into the rows of users, and make item events of their slots."""
        if not impressions:
            return
        offsets = np.array([r.offset for r in records], np.int64) + base
        users = hash_many([i.user_id for i in impressions])
        slots = np.array([len(i.item_ids) for i in impressions], np.int64)
        ts = np.array([i.ts for i in impressions], np.int64)
        rows, fresh = self.users.shown(users, slots, ts, offsets)
        if self._unplaced(rows):
            self._place(users, lambda new: [impressions[i].user_id.encode() for i in new.tolist()])
        self._touch(rows)
        items = hash_many([item for i in impressions for item in i.item_ids])
        self.lists.add(users, slots, items, ts, offsets)
        out = np.zeros(len(items), ITEM_EVENT)
        out["item"] = items
        out["country"] = np.repeat(hash_many([i.country for i in impressions]), slots)
        groups = [i.age_group if i.country else 0 for i in impressions]
        out["age_group"] = np.repeat(np.array(groups, np.uint8), slots)
        out["ts"] = np.repeat(ts, slots)
        out["amount"] = 1
        out["kind"] = KIND["shown"]
        within = np.arange(len(out)) - np.repeat(np.cumsum(slots) - slots, slots)
        out["source_seq"] = np.repeat(offsets, slots) * MAX_SLOTS + within
        out["source_partition"] = self.number + SHOWN_SOURCE
        self._put_out(out[np.repeat(fresh, slots)], "impressions", int(offsets[0]))

    def _put_out(self, out: npt.NDArray[np.void], source: str, first_offset: int) -> None:
        if first_offset < self._combined_from.get(source, first_offset + 1):
            out["alone"] = 1
        self._out.append(out)

    # -- profiles

    def user_record(self, user_id: str, profile: UserProfile | None, record: Any, base: int = 0) -> None:
        """Apply a record of `users`: set the profile of a user, or, when it is None, delete the user's data.

        The last record counts, as in a compacted topic, also when it was sent on from another partition.
        """
        key, offset = hash64(user_id), record.offset + base
        if profile is None:
            row = self.users.forget(key, offset, record.timestamp)
            self.lists.forget(key, offset, record.timestamp)
        else:
            row = self.users.profile(profile, offset, record.timestamp)
        if row >= 0:
            if self._unplaced(np.array([row])):
                self._place(np.array([key], np.uint64), lambda new: [user_id.encode()])
            self._touch(np.array([row], np.int64))
            (self._forgotten.add if profile is None else self._forgotten.discard)(key)
            self.parted |= profile is None
            self.aside |= profile is None

    # -- places

    def _unplaced(self, rows: I64) -> bool:
        return bool((self.state.rows.data["place"][rows] == 0).any())

    def _place(self, users: U64, names: Callable[[I64], list[bytes | None]]) -> None:
        """Note in rows without it the hash that decides the partition of their user: these rows change.

        ``names`` returns the ids of the users at some places of ``users``.
        """
        rows, places = self.state.rows.find(users), self.state.rows.data["place"]
        new = np.flatnonzero((rows >= 0) & (places[rows] == 0))
        places[rows[new]] = partitions_of_keys(names(new), PLACED) | PLACED
        self._touch(rows[new])

    # -- what goes out

    def applied(self) -> Applied:
        """Return what the rows have of `events` and `users`, with those of the next ``take``."""
        self.aside = False
        events, users = self._topics.events, self._topics.users
        return Applied(
            self.reached(events, self.origins.last(events)), self.reached(users, self.origins.last(users))
        )

    def _touch(self, rows: I64) -> None:
        self._touched.append(rows)
        self.state.touch(rows)

    def take(self) -> tuple[PackedRows, list[int], list[npt.NDArray[np.void]]]:
        """Return changes since the last call: packed rows, keys of deleted users, item events in order."""
        rows = rows_once(self._touched, len(self.state.rows.data))
        keys = self.state.rows.data["key"][rows]
        gone = self._without_data()
        there = keys != 0
        if gone:
            there &= ~np.isin(keys, np.array(gone, np.uint64))
        if not there.all():
            rows = rows[there]
        out, self._out = self._out, []  # in order: the consumer detects repeated events by growing numbers
        self._touched, self._forgotten = [], set()
        return self.state.rows.pack(rows), gone, out

    def _without_data(self) -> list[int]:
        """Return the keys of users that were forgotten and have done nothing since."""
        keys = np.array(sorted(self._forgotten), np.uint64)
        if not len(keys):
            return []
        rows = self.state.rows.find(keys)
        packed = self.state.rows.pack(rows[rows >= 0])
        back = packed.keys[known(packed)]
        return [key for key in keys.tolist() if key not in back]

    def changes(self, users: PackedRows | None = None, shown: PackedRows | None = None) -> list[Changes]:
        """Return the changes not in the changelogs yet, one per state store; users have the meta records.

        ``users`` and ``shown`` are rows taken just now, of ``take`` and of ``lists.take``.
        """
        for key, value in self.origins.records():
            self.state.set_meta(key, value)
        return [state.take(packed) for state, packed in zip(self.states, (users, shown), strict=True)]
