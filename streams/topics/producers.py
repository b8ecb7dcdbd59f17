"""Where producers put their records: read from the broker alone, so also when every worker is down."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import FORWARDED, Topics
from headrace.streams.topics.partitioners import Guess, guess_client, right_partition
from headrace.streams.topics.placement import only_clears
from headrace.streams.topics.refusal import unavailable
from headrace.streams.transport.fetching import ISOLATION


@dataclass(slots=True)
class Placement:
    """Where the newest records of one topic are.

    ``right + wrong + keyless + forwarded`` is ``records``.

    Attributes
    ----------
    topic, partitions
        Name, and number of partitions.
    records
        Number of records looked at.
    right, wrong
        How many are in the partition of their key, and in another one.
    keyless
        How many have no key, or an empty one.
    forwarded
        How many were sent on to their right partition by Headrace.
    complete
        False when the time was up before all records that were asked for had been read.
    places
        Key and partition of the records in wrong partitions.
    """

    topic: str
    partitions: int
    records: int = 0
    right: int = 0
    wrong: int = 0
    keyless: int = 0
    forwarded: int = 0
    complete: bool = True
    places: set[tuple[bytes, int]] = field(default_factory=set)

    def add(self, record: Any) -> None:
        """Count one record of the topic; not a null that is where it is on purpose."""
        if only_clears(record):
            return
        self.records += 1
        if any(name == FORWARDED for name, _ in record.headers):
            self.forwarded += 1
        elif not record.key:
            self.keyless += 1
        elif right_partition(record.key, self.partitions) == record.partition:
            self.right += 1
        else:
            self.wrong += 1
            self.places.add((record.key, record.partition))

    def guess(self) -> Guess:
        """Return which client probably wrote the records in wrong partitions."""
        return guess_client(self.places, self.partitions)


async def placements(settings: Settings, *, newest: int = 10_000, seconds: float = 10.0) -> list[Placement]:
    """Look at the newest records of every public topic that is read; missing topics are left out.

    Parameters
    ----------
    newest
        About how many records of each topic; the same number of every partition.
    seconds
        Longest time for reading.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    topics = Topics(settings)
    names = (topics.events, topics.items, topics.users, topics.requests)
    admin = AIOKafkaAdminClient(**connection(settings))
    consumer = AIOKafkaConsumer(
        **connection(settings),
        auto_offset_reset="earliest",
        isolation_level=ISOLATION,
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    try:
        await admin.start()
        await consumer.start()
        described = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics()}
        found = {name: Placement(name, described[name]) for name in names if name in described}
        await _read(consumer, found, newest, seconds)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await consumer.stop()
        await admin.close()
    return list(found.values())


async def _read(
    consumer: AIOKafkaConsumer, found: Mapping[str, Placement], newest: int, seconds: float
) -> None:
    tps = [TopicPartition(name, n) for name, place in found.items() for n in range(place.partitions)]
    if not tps:
        return
    begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    starts = {tp: max(begins[tp], ends[tp] - -(-newest // found[tp.topic].partitions)) for tp in tps}
    left = [tp for tp in tps if starts[tp] < ends[tp]]
    consumer.assign(left)
    for tp in left:
        consumer.seek(tp, starts[tp])
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        fetched: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(timeout_ms=200)
        for tp, records in fetched.items():
            for record in records:
                if record.offset < ends[tp]:
                    found[tp.topic].add(record)
        done = [tp for tp in left if await consumer.position(tp) >= ends[tp]]
        consumer.pause(*done)
        left = [tp for tp in left if tp not in done]
    for tp in left:
        found[tp.topic].complete = False
