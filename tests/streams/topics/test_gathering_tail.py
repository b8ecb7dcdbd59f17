"""A tail that delivers what has come of all partitions together."""

import asyncio
import time
from collections import defaultdict

import pytest

from headrace.streams.topics import tail as tail_module
from headrace.streams.topics.names import Topics
from headrace.streams.topics.tail import GatheringTail

pytestmark = pytest.mark.broker


async def test_few_records_of_all_partitions_come_together_and_in_order(topics_made, sender, eventually):
    topics, lists = Topics(topics_made), []
    async with GatheringTail(topics_made, topics.items, lists.append, every_s=0.3) as tail:
        await asyncio.wait_for(tail.caught_up.wait(), 5)
        began = time.monotonic()
        for n in range(150):
            await sender.send_keyed(topics.items, [(b"%d" % n, b"v", None, ())])
        took = time.monotonic() - began
        await eventually(lambda: sum(len(batch) for some in lists for batch in some) == 150)
        assert len(lists) <= 4 + 2 * took / 0.3, "far fewer lists than records"
        assert max(len(some) for some in lists) > 1, "several partitions in one list"
        offsets = defaultdict(list)
        for some in lists:
            assert len({batch.partition for batch in some}) == len(some), "each partition once"
            for batch in some:
                offsets[batch.partition] += [r.offset for r in batch]
        assert all(got == list(range(len(got))) for got in offsets.values())
        assert {p: len(got) for p, got in offsets.items()} == {
            p: position for (_, p), position in tail.position.items()
        }
        assert tail.lag() == 0


async def test_what_is_not_yet_taken_is_not_delivered(topics_made, sender, eventually):
    topics, given, free = Topics(topics_made), [], asyncio.Event()

    async def take(batches):
        given.extend(batches)
        await free.wait()

    await sender.send_keyed(topics.items, [(b"k", b"v", None, ())])
    async with GatheringTail(topics_made, topics.items, take) as tail:
        await eventually(lambda: given)
        assert sum(tail.position.values()) == 0
        assert not tail.caught_up.is_set()
        free.set()
        await asyncio.wait_for(tail.caught_up.wait(), 5)
        assert sum(tail.position.values()) == 1


async def test_after_a_long_list_the_next_one_comes_at_once(topics_made, sender, eventually, monkeypatch):
    monkeypatch.setattr(tail_module, "MANY", 2)
    topics, lists = Topics(topics_made), []
    async with GatheringTail(topics_made, topics.items, lists.append, every_s=60) as tail:
        await asyncio.wait_for(tail.caught_up.wait(), 5)
        for turn in range(1, 4):
            await sender.send_keyed(topics.items, [(b"k", b"%d" % n, None, ()) for n in range(5)])
            await eventually(lambda turn=turn: sum(len(b) for some in lists for b in some) == 5 * turn)
