"""Reading to the end: partitions missing in an answer, and a hole at the end beside steady traffic."""

from __future__ import annotations

import asyncio
import os

import pytest
from fresh_topics import make_topic

from headrace.streams.topics.reader import open_reader, read_to

pytestmark = pytest.mark.broker


async def test_partitions_that_find_no_room_in_an_answer_are_read_all_the_same(settings, sender, real_kafka):
    """An answer has 50 MiB at most: partitions after that are empty in it, even if they have records."""
    if not real_kafka:
        pytest.skip("the embedded broker answers with all it has")
    partitions, records, size = 36, 4, 500_000
    topic = settings.name("wide")
    await make_topic(settings, topic, partitions)
    value = os.urandom(size)
    for partition in range(partitions):
        await sender.send_many(topic, [(None, value, None, ())] * records, partition=partition)
    found = dict.fromkeys(range(partitions), 0)
    async with open_reader(settings, [topic], fetch_bytes=8 * 1024 * 1024) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            found[part.tp.partition] += len(part.records)
    assert set(found.values()) == {records}


async def test_a_hole_at_the_end_is_seen_beside_steady_traffic(settings, sender):
    topic = settings.name("busy")
    await make_topic(settings, topic, 2)
    await sender.send_many(topic, [(b"k", b"v", None, ())] * 5, partition=0)

    async def write() -> None:
        while True:
            await sender.send_many(topic, [(b"k", b"v", None, ())], partition=1)
            await asyncio.sleep(0.002)

    writing = asyncio.create_task(write())
    try:
        async with open_reader(settings, [topic]) as reader:
            hole, busy = reader.partitions
            _, ends = await reader.bounds()
            # As if compaction had removed offsets 5 and 6: nothing comes from there.
            nothing_before = reader.nothing_before
            reader.nothing_before = lambda tp, end: nothing_before(tp, min(end, 5) if tp == hole else end)
            positions = {}
            async with asyncio.timeout(10):
                begins = dict.fromkeys((hole, busy), 0)
                async for part in read_to(reader, begins, {hole: 7, busy: ends[busy]}, follow=True):
                    positions[part.tp] = part.position
            assert positions[hole] == 7
            assert positions[busy] >= ends[busy]
            later = positions[busy]
            async with asyncio.timeout(10):
                while positions[busy] == later:
                    for part in await reader.fetch(1.0):
                        positions[part.tp] = part.position
    finally:
        writing.cancel()
