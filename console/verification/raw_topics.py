"""The raw topics that ``headrace verify`` reads, from beginning to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
from aiokafka import TopicPartition

from headrace.console.screen import Reporter
from headrace.console.verification.foreign_records import ForeignRecords
from headrace.console.verification.grown import growths_of
from headrace.console.verification.letters import Letters, read_letters
from headrace.models.features.spec import SPEC
from headrace.oracle.records.frames import RAW, raw_records
from headrace.oracle.records.places import At, Places
from headrace.oracle.records.profiles import read_users
from headrace.oracle.records.readers import read_events, read_items
from headrace.oracle.records.shown import read_shown
from headrace.oracle.times import MAX_TS
from headrace.streams.settings import Settings
from headrace.streams.topics.grown_log import in_logs_of
from headrace.streams.topics.growths import Growths
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import Reader, open_reader, read_to

Read = Callable[[pl.DataFrame], pl.DataFrame]

#: Raw records decoded at once.
CHUNK = 20_000


@dataclass(frozen=True)
class Raw:
    """The raw topics, decoded.

    Attributes
    ----------
    events, shown, items, users
        What the oracle reads of `events`, `impressions`, `items` and `users`, a row for every record.
    items_whole, users_whole
        True when `items` and `users` still have every record ever written: they were not compacted.
    covered_from
        The topics have all events and impressions from this time (ms) on; 0 when no record was deleted.
    copied
        Records in the wrong partition with a copy that counts.
    letters
        The dead letters.
    growths
        How often the partitions were made more, and what the logs have of those that were cut.
    """

    events: pl.DataFrame
    shown: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    items_whole: bool
    users_whole: bool
    covered_from: int
    copied: set[At] = field(default_factory=set)
    letters: Letters = field(default_factory=Letters)
    growths: Growths = field(default_factory=Growths)


def _readers(s: Settings) -> dict[str, Read]:
    """Return the oracle's reader of each raw topic."""
    t = Topics(s)
    return {
        t.events: lambda raw: read_events(
            raw, max_bytes=s.max_event_bytes, lateness_ms=s.lateness_ms, future_ms=s.future_ms
        ),
        t.impressions: lambda raw: read_shown(
            raw, max_bytes=s.max_message_bytes, spec=SPEC.version, width=len(SPEC)
        ),
        t.items: lambda raw: read_items(raw, max_bytes=s.max_event_bytes),
        t.users: lambda raw: read_users(raw, max_bytes=s.max_event_bytes),
    }


def _places(s: Settings, reader: Reader, letters: Letters, growths: Growths) -> Places:
    """Return what judges where records are: what producers send belongs to the partition of its key."""
    t = Topics(s)
    names = {t.events: "user_id", t.users: "user_id", t.items: "item_id"}
    counts = Counter(tp.topic for tp in reader.partitions)
    return Places(
        {topic: counts[topic] for topic in names},
        names,
        s.max_event_bytes,
        refuse=getattr(s, "wrong_partition", "forward") == "refuse",
        future=letters.future,
        earlier={topic: growths.counts(topic) for topic in names},
    )


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
    counts, absent = Counter[TopicPartition](), Counter[TopicPartition]()
    letters, growths = await read_letters(settings), await growths_of(settings)
    foreign, of_events = ForeignRecords(settings), Topics(settings).events
    async with open_reader(settings, reads) as reader:
        growths = await in_logs_of(reader, growths)
        places = _places(settings, reader, letters, growths)

        async def decode(tp: TopicPartition) -> None:
            records: Sequence[Any] = held.pop(tp, ())
            records = await foreign.read(records) if tp.topic == of_events else records
            raw = raw_records(tp.topic, tp.partition, records)
            chunks[tp.topic].append(reads[tp.topic](places.judge(raw)))

        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            new = [r for r in part.records if r.offset < ends[part.tp]]
            counts[part.tp] += len(new)
            absent[part.tp] += part.absent + (begins[part.tp] if part.tp not in absent else 0)
            held.setdefault(part.tp, []).extend(new)
            if part.position >= ends[part.tp] or len(held[part.tp]) >= CHUNK:
                await decode(part.tp)
            report(counts.total(), "records read")
    frames = {topic: pl.concat(parts) for topic, parts in chunks.items()}
    absent.update({tp: begin for tp, begin in begins.items() if tp not in absent})
    raw = _raw(settings, frames, absent, begins, places.copied, letters)
    return replace(raw, growths=growths), dict(ends)


def _raw(
    s: Settings,
    frames: Mapping[str, pl.DataFrame],
    absent: Counter[TopicPartition],
    begins: Mapping[TopicPartition, int],
    copied: set[At],
    letters: Letters,
) -> Raw:
    """Return the ``frames`` of the topics; ``absent`` and ``begins`` show what is missing in them."""
    t = Topics(s)
    started = {topic: {tp.partition for tp in begins if tp.topic == topic and begins[tp]} for topic in frames}
    covered = [
        covered_from(frames[topic], started[topic], s.future_ms + extra)
        for topic, extra in ((t.events, s.dedup_window_ms), (t.impressions, 0))
    ]
    lost = {topic: sum(n for tp, n in absent.items() if tp.topic == topic) for topic in frames}
    return Raw(
        events=frames[t.events],
        shown=frames[t.impressions],
        items=frames[t.items],
        users=frames[t.users],
        items_whole=not lost[t.items],
        users_whole=not lost[t.users],
        covered_from=max(covered),
        copied=copied,
        letters=letters,
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
