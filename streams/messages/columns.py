"""Events and item events as numpy columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.ages import age_group
from headrace.streams.messages.event_fields import RIGHT, event_fields
from headrace.streams.messages.ids import hash_many, words
from headrace.streams.messages.schemas import Event
from headrace.streams.topics.placement import FORWARDED

I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

#: Kinds of item events. ``shown`` comes from impressions; ``pair`` means two items close together in the
#: clicks of one user; the others are the types of ``Event``.
KINDS = ("shown", "click", "skip", "dwell", "like", "save", "follow", "hide", "pair")
KIND = {name: i for i, name in enumerate(KINDS)}

ITEM_EVENT = np.dtype(
    [
        ("item", "<u8"),  # decides the partition
        ("other", "<u8"),  # the other item of a pair, else 0
        ("country", "<u8"),
        ("ts", "<i8"),  # of the newest event in it, ms
        ("source_seq", "<i8"),  # number within the source partition: only grows; the same after a replay
        ("amount", "<u4"),  # number of events (pair: of pairs), or the dwell time in seconds
        ("seq_weight", "<f4"),  # pair: weight for ``other`` after ``item``
        ("reach", "<u4"),  # numbers back to the first one put together with it; 0: it is alone
        ("span", "<u2"),  # ms between the oldest and the newest event in it
        ("source_partition", "<u2"),
        ("kind", "u1"),
        ("alone", "u1"),  # 1: never put together with others (``combine_item_events``)
        ("age_group", "u1"),  # of a click or a shown slot with a country; 0: unknown
        ("pad", "u1", (5,)),
    ]
)


@dataclass(slots=True)
class EventColumns:
    """A batch of accepted events; every array has shape ``(n,)``."""

    user: U64
    item: U64
    kind: I8
    ts: I64
    dwell_s: F32  # whole seconds, rounded
    country: U64
    offset: I64
    category: U64
    creator: U64
    of_creator: Bool  # a hide is of everything by the item's creator
    age_group: U8  # 0: unknown

    def __len__(self) -> int:
        return len(self.user)

    def where(self, mask: npt.NDArray[np.bool_] | I64) -> EventColumns:
        """Return the events chosen by a bool mask ``(n,)`` or by positions ``(m,)``."""
        return EventColumns(
            self.user[mask],
            self.item[mask],
            self.kind[mask],
            self.ts[mask],
            self.dwell_s[mask],
            self.country[mask],
            self.offset[mask],
            self.category[mask],
            self.creator[mask],
            self.of_creator[mask],
            self.age_group[mask],
        )


def event_columns(events: Sequence[Event], offsets: Sequence[int]) -> EventColumns:
    """Return decoded events as columns. ``category`` and ``creator`` are 0: the caller sets them."""
    n = len(events)
    dwell_ms = np.fromiter([e.dwell_ms or 0 for e in events], np.int64, n)
    return EventColumns(
        user=hash_many([e.user_id for e in events]),
        item=hash_many([e.item_id for e in events]),
        kind=np.frombuffer(bytes(map(KIND.__getitem__, [e.type for e in events])), np.int8),
        ts=np.fromiter([e.ts for e in events], np.int64, n),
        dwell_s=((dwell_ms + 500) // 1000).astype(np.float32),
        country=hash_many([e.context.country for e in events]),
        offset=np.array(offsets, np.int64),
        category=np.zeros(n, np.uint64),
        creator=np.zeros(n, np.uint64),
        of_creator=np.fromiter([e.scope == "creator" for e in events], np.bool_, n),
        age_group=np.fromiter([age_group(e.context.age) for e in events], np.uint8, n),
    )


@dataclass(slots=True)
class EventBatch:
    """The decoded events of a batch of `events`, with a verdict for each; arrays have shape ``(n,)``.

    Attributes
    ----------
    columns
        All of them, those to be rejected too.
    event_id
        64-bit ids of their ``event_id``, uint64.
    timestamp
        Timestamps of their records, int64, ms.
    verdict
        Of ``streams/messages/event_fields``: ``RIGHT`` (0) or why it must not be applied, uint8.
    placed
        Whether the record is in the partition of its key, bool.
    sent_on
        Whether the record was sent on from another partition, bool.
    """

    columns: EventColumns
    event_id: U64
    timestamp: I64
    verdict: npt.NDArray[np.uint8]
    placed: npt.NDArray[np.bool_]
    sent_on: npt.NDArray[np.bool_]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return which events may be applied, bool ``(n,)``."""
        right: npt.NDArray[np.bool_] = self.verdict == RIGHT
        return right

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the arrays that ``event_batch`` takes."""
        c = self.columns
        own = self.event_id, self.timestamp, self.verdict, self.placed, self.sent_on
        return c.user, c.item, c.kind, c.ts, c.dwell_s, c.country, c.offset, c.of_creator, c.age_group, *own


@dataclass(frozen=True, slots=True)
class Limits:
    """What decides the verdict on an event; times in ms.

    Attributes
    ----------
    partitions
        Number of partitions of `events`.
    lateness_ms, future_ms
        How far ``ts`` may be before and after the record's timestamp.
    """

    partitions: int
    lateness_ms: int
    future_ms: int


#: A record dated further past the clock of the worker is refused: its unit or its clock is wrong. A day, not
#: ``future_ms``: the worker's own clock may be hours behind.
CLOCK_SLACK_MS = 24 * 3_600_000


def read_events(
    events: list[Event], records: list[Any], partition: int, limits: Limits, now_ms: int
) -> EventBatch:
    """Return decoded events of one partition as columns, each with a verdict.

    Parameters
    ----------
    records
        The record of each event.
    now_ms
        The worker's clock, ms since the epoch.
    """
    rules = rules_of(partition, limits, now_ms)
    return event_batch(event_fields(events, records, KIND, sent_on_header=FORWARDED, **rules))


def rules_of(partition: int, limits: Limits, now_ms: int) -> dict[str, Any]:
    """Return what decides the verdicts on the events of a partition, as ``event_fields`` takes it."""
    return {
        "partition": partition,
        "partitions": limits.partitions,
        "lateness_ms": limits.lateness_ms,
        "future_ms": limits.future_ms,
        "newest_ms": now_ms + CLOCK_SLACK_MS,
        "key_words": words(),
    }


def event_batch(arrays: tuple[npt.NDArray[Any], ...]) -> EventBatch:
    """Return the arrays of ``event_fields`` as a batch."""
    user, item, kind, ts, dwell_s, country, offset, of_creator, age_group, *own = arrays
    nothing = np.zeros(len(user), np.uint64)
    columns = EventColumns(
        user, item, kind, ts, dwell_s, country, offset, nothing, nothing, of_creator, age_group
    )
    return EventBatch(columns, *own)


#: The largest time the public messages allow (the year 2100), ms.
MAX_TS = 4_102_444_800_000

#: The largest amount of one item event: 10,000 events, each with a day of dwell, in seconds.
MAX_AMOUNT = 10_000 * 86_400
#: Most item events in one record of `item-events`: with one record per event, transport would cost more than
#: counting.
PACKED = 512
