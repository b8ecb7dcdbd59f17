"""Item events on their way to `item-events`: put together, so that a busy item is one record a flush.

A broker takes a record batch as a whole or not at all. So events are put together within one batch: after a
crash between two batches, all events up to the last number in the topic were written, and none after it.

How large packed events are is known only afterwards, when it is too late to put fewer of them together. So at
most as many are put together as fit in a batch at their largest size. A batch is then about a third full.

The records are not compressed. Packed events are mostly ids: lz4 and zstd make them a third smaller (12 bytes
instead of 17), but they take more than twice as long as packing and unpacking.
"""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from headrace.models.state.item_events import combine_item_events, split_item_events
from headrace.streams.messages.columns import PACKED
from headrace.streams.messages.packed_item_events import MOST_BYTES, pack_item_events
from headrace.streams.topics.sender import BatchSender

Records = npt.NDArray[np.void]


def leave_alone(out: list[Records]) -> None:
    """Leave events alone that come before events of their source that are alone.

    A partition that stays with its worker over a rebalance may have events that were not sent yet. Put
    together with events after the alone ones, they would look like events that a former owner sent late, and
    none of them would count.

    Parameters
    ----------
    out
        Arrays of ``ITEM_EVENT`` in their order, changed in place. Each is of one source, and alone as a whole
        or not at all.
    """
    sources = set[int]()
    for events in reversed(out):
        if len(events):
            source = int(events["source_partition"][0])
            if events["alone"][0]:
                sources.add(source)
            elif source in sources:
                events["alone"] = 1


class ItemEventsOut:
    """Item events that were not sent yet, in order."""

    def __init__(self, sender: BatchSender, topic: str) -> None:
        self._sender, self._topic = sender, topic
        self._out: list[Records] = []

    def __bool__(self) -> bool:
        return bool(self._out)

    def add(self, events: list[Records]) -> None:
        """Add arrays of ``ITEM_EVENT``, each of one source; the numbers of a source must rise."""
        self._out.extend(events)

    async def send(self) -> None:
        """Write everything added so far; return when the broker has acknowledged it."""
        out, self._out = self._out, []
        if not out:
            return
        leave_alone(out)
        events, sizes = split_item_events(out, await self._sender.partitions_of(self._topic))
        ends = np.cumsum(sizes).tolist()
        await asyncio.gather(
            *(
                self._send(number, events[end - size : end])
                for number, (size, end) in enumerate(zip(sizes.tolist(), ends, strict=True))
                if size
            )
        )

    async def _send(self, partition: int, events: Records) -> None:
        step = self._sender.pieces_in_batch(MOST_BYTES, PACKED)
        for start in range(0, len(events), step):
            blob, bounds = pack_item_events(combine_item_events(events[start : start + step]))
            await self._sender.send_values(self._topic, blob, bounds, partition=partition)
