"""From version 0.1.0: the rows are made again from the topics.

Version 0.1.0 hashed ids without a key. Its rows have only the hashes, so they cannot be put under the new
ones. `users` and `items` have everything, `events` and `impressions` what their retention keeps. So the
groups go back to the beginning, and the changelogs become empty::

    item-events: passed over     they have the old ids
    events, users, impressions   from the beginning
    examples                     passed over: they have other features
    changelogs                   a tombstone for every key; rows last

Killed at any moment, it is run again: until the last tombstone is written there is an old row, and nothing
before it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.agents.stage.partitions import place_key
from headrace.console.upgrading.offline import check_stopped, commit, kept
from headrace.models.state import items, neighbours, users
from headrace.streams.settings import Settings
from headrace.streams.tables.changes import key_bytes
from headrace.streams.tables.layouts import layouts_of
from headrace.streams.topics import flow
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader
from headrace.streams.topics.refusal import unavailable
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.places import Place

#: Records written at once.
STEP = 2000


@dataclass
class Rebuilt:
    """What was done. The fields are the keys of the JSON.

    Attributes
    ----------
    found
        Rows of version 0.1.0, by changelog.
    removed
        Records removed from the changelogs.
    read_again
        Records that the workers read again, by topic.
    created
        Topics that were made.
    """

    found: dict[str, int] = field(default_factory=dict)
    removed: int = 0
    read_again: dict[str, int] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)


def old_rows(rows: dict[int, bytes], dtype: np.dtype[Any]) -> int:
    """Return how many packed rows have a layout that cannot be migrated."""
    layouts = layouts_of(dtype)
    return 0 if layouts is None else len(layouts.migrated(list(rows.values()))[1])


async def rebuild(settings: Settings, say: Callable[[str], None]) -> Rebuilt:
    """Prepare an installation of version 0.1.0 for this one; do nothing to any other.

    Raises
    ------
    StillRunningError
        A worker runs.
    UnavailableError
        The broker does not answer.
    """
    try:
        return await _rebuild(settings, say)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc


async def _rebuild(settings: Settings, say: Callable[[str], None]) -> Rebuilt:
    out = Rebuilt()
    topics = Topics(settings)
    await check_stopped(settings, list(flow.group_reads()))
    tables: list[tuple[str, np.dtype[Any]]] = [
        (topics.item_features, items.ROW),
        (topics.item_countries, items.ROW),
        (topics.neighbours, neighbours.ROW),
        (topics.user_state, users.ROW),
    ]
    contents = {}
    for topic, dtype in tables:
        for number in range(settings.partitions):
            rows, meta = await kept(settings, topic, number)
            contents[topic, number] = np.fromiter(rows, np.uint64, len(rows)), list(meta)
            if old := old_rows(rows, dtype):
                out.found[topic] = out.found.get(topic, 0) + old
    if not out.found:
        return out
    say(f"{sum(out.found.values())} rows of version 0.1.0")
    out.created = await create_topics(settings)
    passed_over = await _move_groups(settings, topics, out)
    sender = BatchSender(settings)
    await sender.start()
    try:
        for metas in (True, False):  # rows last: they say that it has not ended
            for (topic, number), (numbers, marks) in contents.items():
                keys = marks if metas else key_bytes(numbers)
                for at in range(0, len(keys), STEP):
                    records = [(key, None, None, ()) for key in keys[at : at + STEP]]
                    await sender.send_many(topic, records, partition=number)
                    out.removed += len(records)
                if metas and topic == topics.item_features:
                    key, place = place_key(topics.item_events), Place(passed_over[number])
                    await sender.send_many(topic, [(key, place.encode(), None, ())], partition=number)
                say(f"{topic}-{number}: {len(keys)} {'marks' if metas else 'rows'} removed")
    finally:
        await sender.stop()
    return out


async def _move_groups(settings: Settings, topics: Topics, out: Rebuilt) -> dict[int, int]:
    """Commit where every group goes on; return the ends of `item-events` by partition."""
    read = [topics.events, topics.users, topics.impressions, topics.items]
    passed = [topics.item_events, topics.examples]
    async with open_reader(settings, [*read, *passed]) as reader:
        begins, ends = await reader.bounds()
    for tp in begins:
        if tp.topic in read:
            out.read_again[tp.topic] = out.read_again.get(tp.topic, 0) + ends[tp] - begins[tp]

    def of(where: dict[TopicPartition, int], *names: str) -> dict[TopicPartition, int]:
        return {tp: at for tp, at in where.items() if tp.topic in names}

    await commit(settings, "ingest", of(begins, *read))
    await commit(settings, "aggregate", of(ends, topics.item_events))
    await commit(settings, "learn", of(ends, topics.events, topics.impressions, topics.examples))
    await commit(settings, "log", of(ends, topics.examples))
    return {tp.partition: end for tp, end in ends.items() if tp.topic == topics.item_events}
