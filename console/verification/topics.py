"""What ``headrace verify`` reads: raw topics from beginning to end, and the newest rows of the changelogs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from aiokafka import TopicPartition

from headrace.console.screen import Reporter
from headrace.oracle import records as oracle_records
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_partition, read_to

Rows = npt.NDArray[np.void]
Read = Callable[[pl.DataFrame], pl.DataFrame]

#: Raw records decoded at once.
CHUNK = 20_000


@dataclass(frozen=True)
class Raw:
    """The raw topics, decoded; ``whole`` says for each whether every record ever written was there.

    ``covered_from``: acts from this time (ms) on are all there; 0 when nothing is missing.
    """

    events: pl.DataFrame
    shown: pl.DataFrame
    items: pl.DataFrame
    forgotten: pl.DataFrame
    items_whole: bool
    covered_from: int


async def read_raw(settings: Settings, report: Reporter) -> tuple[Raw, dict[TopicPartition, int]]:
    """Read the raw topics up to their present ends; return them and those ends.

    Raises
    ------
    UnavailableError
        When a topic is missing or the broker stops answering.
    """
    s, t = settings, Topics(settings)
    reads: dict[str, Read] = {
        t.events: lambda raw: oracle_records.read_events(
            raw, max_bytes=s.max_event_bytes, lateness_ms=s.lateness_ms, future_ms=s.future_ms
        ),
        t.impressions: lambda raw: oracle_records.read_shown(raw, max_bytes=s.max_message_bytes),
        t.items: lambda raw: oracle_records.read_items(raw, max_bytes=s.max_event_bytes),
        t.users: oracle_records.read_forgotten,
    }
    empty = oracle_records.RAW.to_frame()
    chunks = {topic: [read(empty)] for topic, read in reads.items()}
    held: dict[TopicPartition, list[Any]] = {}
    counts: Counter[TopicPartition] = Counter()

    def decode(tp: TopicPartition) -> None:
        raw = oracle_records.raw_records(tp.topic, tp.partition, held.pop(tp, ()))
        chunks[tp.topic].append(reads[tp.topic](raw))

    async with open_reader(s, reads) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            new = [r for r in part.records if r.offset < ends[part.tp]]
            counts[part.tp] += len(new)
            held.setdefault(part.tp, []).extend(new)
            if part.position >= ends[part.tp] or len(held[part.tp]) >= CHUNK:
                decode(part.tp)
            report(counts.total(), "records read")
    frames = {topic: pl.concat(parts) for topic, parts in chunks.items()}
    started = {topic: {tp.partition for tp in begins if tp.topic == topic and begins[tp]} for topic in reads}
    covered = [
        covered_from(frames[topic], started[topic], s.future_ms + extra)
        for topic, extra in ((t.events, s.dedup_window_ms), (t.impressions, 0))
    ]
    raw = Raw(
        events=frames[t.events],
        shown=frames[t.impressions],
        items=frames[t.items],
        forgotten=frames[t.users],
        items_whole=all(counts[tp] == ends[tp] for tp in ends if tp.topic == t.items),
        covered_from=max(covered),
    )
    return raw, dict(ends)


def covered_from(records: pl.DataFrame, started: set[int], margin_ms: int) -> int:
    """Return the time from which on every act is there; 0 when no partition lost its beginning.

    What a broker deleted was written before the first record it kept.
    """
    first = records.filter(pl.col("partition").is_in(list(started))).group_by("partition")
    newest = first.agg(pl.col("timestamp").sort_by("offset").first())["timestamp"].max()
    if not started:
        return 0
    # A partition of which nothing is left covers nothing.
    gone = started - set(records["partition"].unique().to_list())
    return oracle_records.MAX_TS if gone or newest is None else int(str(newest)) + margin_ms


class Latest:
    """The newest row of every key of one changelog partition.

    Of two rows of a key the one with the larger ``order`` fields counts, of equals the later: a worker that
    did not know yet that it had lost the partition may have written an older one.

    Attributes
    ----------
    rows
        Packed rows by key.
    refused
        Records that are not rows of this dtype under their own key.
    """

    def __init__(self, dtype: np.dtype[Any], order: Sequence[str]) -> None:
        self._dtype = dtype
        self._order = list(order)
        self._ages: dict[int, tuple[int, ...]] = {}
        self.rows: dict[int, bytes] = {}
        self.refused = 0

    def apply(self, records: Iterable[Any]) -> None:
        """Take over changelog records, in their order."""
        given = [r for r in records if r.key is not None and len(r.key) == 8]  # the others are not rows
        rows, sound = unpack([r.value for r in given], self._dtype)
        ages = zip(*(rows[name].tolist() for name in self._order), strict=True)
        for record, key, ours, age in zip(given, rows["key"].tolist(), sound.tolist(), ages, strict=True):
            if record.value is None:
                gone = int.from_bytes(record.key, "little")
                self.rows.pop(gone, None)
                self._ages.pop(gone, None)
            elif not ours or record.key != key.to_bytes(8, "little"):
                self.refused += 1
            elif age >= self._ages.get(key, age):
                self.rows[key], self._ages[key] = record.value, age

    def table(self) -> Rows:
        """Return the rows as an array, ``(n,)``, in the order of ``rows``."""
        return unpack(list(self.rows.values()), self._dtype)[0]


async def latest_rows(
    settings: Settings, topic: str, partition: int, dtype: np.dtype[Any], order: Sequence[str]
) -> Latest:
    """Read a changelog partition to its present end."""
    latest = Latest(dtype, order)
    await read_partition(settings, topic, partition, latest.apply)
    return latest
