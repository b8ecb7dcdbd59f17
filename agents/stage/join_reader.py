"""Reads impressions again when they close, and the end of `examples`; outside the consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from itertools import pairwise, zip_longest
from typing import Any

from aiokafka import TopicPartition
from mode import Service

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import Reader, open_reader, read_to

#: Bytes fetched at once from a partition. More would often be fetched in vain: few lists close at a time.
FETCH_BYTES = 256 * 1024
#: Records decoded at once from a partition, for the same reason.
RECORDS = 100
#: Impressions that are further apart are not read in one go.
APART = 25
#: Longest time without a record, s; then the caller tries again later.
PATIENCE_S = 5.0


class JoinReader(Service):
    """A private reader of `impressions` and `examples`.

    Its methods raise ``UnavailableError`` or aiokafka's ``KafkaError`` while the broker cannot be reached.
    """

    mundane_level = "debug"

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._open = AsyncExitStack()
        self._reader: Reader | None = None
        self._turn = asyncio.Lock()
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Connect to the broker."""
        topics = [self._topics.impressions, self._topics.examples]
        few = self._settings.model_copy(update={"batch_max_records": RECORDS})
        opened = open_reader(few, topics, fetch_bytes=FETCH_BYTES)
        self._reader = await self._open.enter_async_context(opened)

    async def on_stop(self) -> None:
        """Disconnect."""
        self._reader = None
        await self._open.aclose()

    async def impressions(self, wanted: Mapping[int, Collection[int]]) -> dict[int, dict[int, Any]]:
        """Return records of `impressions`, by partition and offset.

        Parameters
        ----------
        wanted
            Offsets by partition. Those that the topic does not have any more are missing in the result.
        """
        out: dict[int, dict[int, Any]] = {number: {} for number in wanted}
        stretches = {number: _stretches(offsets) for number, offsets in wanted.items()}
        for turn in zip_longest(*stretches.values()):
            ranges = {number: both for number, both in zip(stretches, turn, strict=True) if both is not None}
            found = await self._read(self._topics.impressions, ranges)
            for number, records in found.items():
                out[number] |= {r.offset: r for r in records if r.offset in wanted[number]}
        return out

    async def first_impression(self, number: int) -> int:
        """Return the first offset of a partition of `impressions`."""
        tp = TopicPartition(self._topics.impressions, number)
        if self._reader is None:
            return 0
        async with self._turn:
            self._reader.partitions = [tp]
            begins, _ = await self._reader.bounds()
            return int(begins[tp])

    async def last_examples(self, number: int, most: int) -> list[Any]:
        """Return the last records of a partition of `examples`; at most about ``most``."""
        return (await self._read(self._topics.examples, {number: (-most, 1 << 62)}))[number]

    async def _read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, list[Any]]:
        """Return the records of offset ranges; a negative first offset counts from the end."""
        found: dict[int, list[Any]] = {number: [] for number in ranges}
        if self._reader is None or not ranges:
            return found
        async with self._turn:
            tps = {number: TopicPartition(topic, number) for number in ranges}
            self._reader.partitions = list(tps.values())
            begins, ends = await self._reader.bounds()
            for number, tp in tps.items():
                first, end = ranges[number]
                begins[tp] = max(begins[tp], first if first >= 0 else ends[tp] + first)
                ends[tp] = min(ends[tp], end)
            async for part in read_to(self._reader, begins, ends, timeout_s=PATIENCE_S):
                before = ends[part.tp]
                found[part.tp.partition].extend(r for r in part.records if r.offset < before)
            return found


def _stretches(offsets: Collection[int]) -> list[tuple[int, int]]:
    """Return ranges with all offsets, without the gaps that are longer than ``APART``."""
    found = sorted(offsets)
    cuts = [k for k, (a, b) in enumerate(pairwise(found), 1) if b - a > APART]
    return [(found[i], found[j - 1] + 1) for i, j in pairwise([0, *cuts, len(found)]) if i < j]
