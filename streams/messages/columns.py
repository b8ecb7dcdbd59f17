"""Events as columns, and the compact form they take on ``item-events``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.ids import KnownIds, hash_many
from headrace.streams.messages.schemas import Event

I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]

#: What happened. ``shown`` comes from impressions; ``pair`` (two items close together in one user's clicks)
#: from the clicks before.
KINDS = ("shown", "click", "skip", "dwell", "like", "save", "follow", "hide", "pair")
KIND = {name: i for i, name in enumerate(KINDS)}

ITEM_EVENT = np.dtype(
    [
        ("item", "<u8"),  # whose partition this is
        ("other", "<u8"),  # the neighbour of a pair, else 0
        ("country", "<u8"),
        ("ts", "<i8"),
        ("source_seq", "<i8"),  # grows along a source partition; the same for a replayed event
        ("seq_weight", "<f4"),  # pair: how strongly ``other`` follows ``item``
        ("co_weight", "<f4"),  # pair: that they were seen together
        ("amount", "<f4"),  # 1, or seconds of dwell
        ("source_partition", "<u2"),
        ("kind", "u1"),
        ("pad", "u1"),
    ]
)


_COUNTRIES = KnownIds(10_000)


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

    def __len__(self) -> int:
        return len(self.user)

    def where(self, mask: npt.NDArray[np.bool_] | I64) -> EventColumns:
        """Return the chosen events."""
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
        )


def event_columns(events: Sequence[Event], offsets: Sequence[int]) -> EventColumns:
    """Turn decoded events into columns; whoever has a catalogue fills in ``category`` and ``creator``."""
    n = len(events)
    dwell_ms = np.fromiter([e.dwell_ms or 0 for e in events], np.int64, n)
    return EventColumns(
        user=hash_many([e.user_id for e in events]),
        item=hash_many([e.item_id for e in events]),
        kind=np.frombuffer(bytes(map(KIND.__getitem__, [e.type for e in events])), np.int8),
        ts=np.fromiter([e.ts for e in events], np.int64, n),
        dwell_s=((dwell_ms + 500) // 1000).astype(np.float32),
        country=_COUNTRIES.many([e.context.country for e in events]),
        offset=np.array(offsets, np.int64),
        category=np.zeros(n, np.uint64),
        creator=np.zeros(n, np.uint64),
    )


#: The largest time the public messages allow (the year 2100), ms.
MAX_TS = 4_102_444_800_000

#: The largest amount of one event: a day of dwell, in seconds.
MAX_AMOUNT = 86_400
#: Item events in one record of `item-events`: a record an event would cost more to carry than to count.
PACKED = 512


def pack_item_events(events: npt.NDArray[np.void]) -> list[bytes]:
    """Return record values holding ``events``, in order, up to ``PACKED`` each."""
    return [events[i : i + PACKED].tobytes() for i in range(0, len(events), PACKED)]


def read_item_events(values: Sequence[bytes], offsets: Sequence[int]) -> tuple[npt.NDArray[np.void], I64]:
    """Decode ``item-events`` records.

    Returns
    -------
    events, offsets
        ``ITEM_EVENT`` and the offset of the record each came in, both ``(n,)``.

    Raises
    ------
    ValueError
        The size of a value is not a multiple of an event's.
    """
    size = ITEM_EVENT.itemsize
    counts = [len(v) // size for v in values]
    if any(len(v) % size for v in values):
        raise ValueError(f"item-events values hold events of {size} bytes each")
    return np.frombuffer(b"".join(values), ITEM_EVENT), np.repeat(np.array(offsets, np.int64), counts)


def sound_item_events(events: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return which events could have been written by us, bool ``(n,)``."""
    sound: npt.NDArray[np.bool_] = (events["kind"] < len(KINDS)) & (events["item"] != 0)
    sound &= (events["ts"] >= 0) & (events["ts"] <= MAX_TS) & (events["source_seq"] >= 0)
    for name in ("amount", "seq_weight", "co_weight"):
        sound &= (events[name] >= 0) & (events[name] <= MAX_AMOUNT)  # never so for what is not a number
    return sound
