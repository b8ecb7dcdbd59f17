"""The raw topics that ``headrace verify`` reads, from beginning to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from aiokafka import TopicPartition

from headrace.console.screen import Reporter
from headrace.oracle.records.frames import RAW, raw_records
from headrace.oracle.records.readers import read_events, read_forgotten, read_items, read_shown
from headrace.oracle.times import MAX_TS
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to

Read = Callable[[pl.DataFrame], pl.DataFrame]

#: Raw records decoded at once.
CHUNK = 20_000


@dataclass(frozen=True)
class Raw:
    """The raw topics, decoded.

    Attributes
    ----------
    events, shown, items, forgotten
        What the oracle reads of `events`, `impressions`, `items` and `users`, a row for every record.
    items_whole
        True when `items` still has every record ever written: it was not compacted.
    covered_from
        The topics have all events and impressions from this time (ms) on; 0 when no record was deleted.
    """

    events: pl.DataFrame
    shown: pl.DataFrame
    items: pl.DataFrame
    forgotten: pl.DataFrame
    items_whole: bool
    covered_from: int


def _readers(s: Settings) -> dict[str, Read]:
    """Return the oracle's reader of each raw topic."""
    t = Topics(s)
    return {
        t.events: lambda raw: read_events(
            raw, max_bytes=s.max_event_bytes, lateness_ms=s.lateness_ms, future_ms=s.future_ms
        ),
        t.impressions: lambda raw: read_shown(raw, max_bytes=s.max_message_bytes),
        t.items: lambda raw: read_items(raw, max_bytes=s.max_event_bytes),
        t.users: read_forgotten,
    }


async def read_raw(settings: Settings, report: Reporter) -> tuple[Raw, dict[TopicPartition, int]]:
    """Read the raw topics up to their present ends; return them and those ends.

    Raises
    ------
    UnavailableError
        When a topic is missing or the broker stops answering.
    """
    reads = _readers(settings)
    empty = RAW.to_frame()
    chunks = {topic: [read(empty)] for topic, read in reads.items()}
    held: dict[TopicPartition, list[Any]] = {}
    counts: Counter[TopicPartition] = Counter()

    def decode(tp: TopicPartition) -> None:
        raw = raw_records(tp.topic, tp.partition, held.pop(tp, ()))
        chunks[tp.topic].append(reads[tp.topic](raw))

    async with open_reader(settings, reads) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            new = [r for r in part.records if r.offset < ends[part.tp]]
            counts[part.tp] += len(new)
            held.setdefault(part.tp, []).extend(new)
            if part.position >= ends[part.tp] or len(held[part.tp]) >= CHUNK:
                decode(part.tp)
            report(counts.total(), "records read")
    frames = {topic: pl.concat(parts) for topic, parts in chunks.items()}
    return _raw(settings, frames, counts, begins, ends), dict(ends)


def _raw(
    s: Settings,
    frames: Mapping[str, pl.DataFrame],
    counts: Counter[TopicPartition],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> Raw:
    """Return the ``frames`` of the topics; offsets and numbers of records show what is missing in them."""
    t = Topics(s)
    started = {topic: {tp.partition for tp in begins if tp.topic == topic and begins[tp]} for topic in frames}
    covered = [
        covered_from(frames[topic], started[topic], s.future_ms + extra)
        for topic, extra in ((t.events, s.dedup_window_ms), (t.impressions, 0))
    ]
    return Raw(
        events=frames[t.events],
        shown=frames[t.impressions],
        items=frames[t.items],
        forgotten=frames[t.users],
        items_whole=all(counts[tp] == ends[tp] for tp in ends if tp.topic == t.items),
        covered_from=max(covered),
    )


def covered_from(records: pl.DataFrame, started: set[int], margin_ms: int) -> int:
    """Return the time (ms) from which ``records`` have every act; 0 when every partition begins at offset 0.

    Deleted records were written before the first record that the broker kept.

    Parameters
    ----------
    records
        Decoded records of one topic.
    started
        Partitions that do not begin at offset 0: the broker has deleted their first records.
    margin_ms
        The time of an act may be this long after the timestamp of its record.
    """
    first = records.filter(pl.col("partition").is_in(list(started))).group_by("partition")
    newest = first.agg(pl.col("timestamp").sort_by("offset").first())["timestamp"].max()
    if not started:
        return 0
    # A partition without any record left has no act of any time.
    gone = started - set(records["partition"].unique().to_list())
    return MAX_TS if gone or newest is None else int(str(newest)) + margin_ms
