"""A tail of a compacted topic reads of old records only the newest ones, and every new one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.topics.tail import CompactedTail

pytestmark = pytest.mark.broker


async def test_a_start_reads_the_newest_records_of_each_key(
    topics_made: Settings, sender: BatchSender, eventually: Any
) -> None:
    topic, batches = Topics(topics_made).models, list[list[tuple[bytes, bytes | None]]]()
    for n in range(30):
        records = [(b"a", b"%d" % n, None, ()), (b"b%d" % n, b"", None, ())]
        await sender.send_many(topic, records, partition=0)
    await sender.send_many(topic, [(b"b3", None, None, ())], partition=0)

    def take(batch: Any) -> None:
        batches.append([(r.key, r.value) for r in batch])

    async with CompactedTail(topics_made, topic, take) as tail:
        await asyncio.wait_for(tail.caught_up.wait(), 5)
        (old,) = batches
        assert [value for key, value in old if key == b"a"] == [b"26", b"27", b"28", b"29"]
        assert [value for key, value in old if key == b"b3"] == [b"", None], "in the order of the log"
        assert {key for key, _ in old} == {b"a", *(b"b%d" % n for n in range(30))}
        assert tail.lag() == 0
        for n in range(6):
            await sender.send_many(topic, [(b"a", b"new %d" % n, None, ())], partition=0)
        await eventually(lambda: sum(map(len, batches[1:])) == 6)
        assert [value for batch in batches[1:] for _, value in batch] == [b"new %d" % n for n in range(6)]


async def test_an_empty_topic_delivers_nothing(topics_made: Settings, sender: BatchSender) -> None:
    batches: list[Any] = []
    async with CompactedTail(topics_made, Topics(topics_made).models, batches.append) as tail:
        await asyncio.wait_for(tail.caught_up.wait(), 5)
    assert not batches
