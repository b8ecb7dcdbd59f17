"""Reads the rows of items, and of items by country, into the mirrors of a serving worker."""

from __future__ import annotations

from headrace.agents.stage.slices import Pace, in_slices
from headrace.agents.wiring import Wiring
from headrace.serving.mirrors import Mirrors
from headrace.streams.topics.tail import Tail
from headrace.streams.transport.batches import RecordBatch


def row_tail(wiring: Wiring, items: str, countries: str, mirrors: Mirrors) -> Tail:
    """Return the service that reads the rows of items, and those by country, into ``mirrors``, in slices."""
    pace = Pace()

    def apply(part: list[RecordBatch]) -> None:
        now = wiring.clock.now_ms()
        for batch in part:
            if batch.topic == countries:
                mirrors.item_countries(batch.records, now)
            else:
                mirrors.item_features(batch.records, now)

    async def take(batch: RecordBatch) -> None:
        await in_slices([batch], apply, pace, tail.caught_up.is_set)

    tail = Tail(wiring.settings, [items, countries], take, name="rows")
    return tail
