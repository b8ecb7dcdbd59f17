"""A tail follows the topic that there is, also when it was deleted and made again."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from counting_stage import delete_topic, make_again
from fresh_topics import make_topic

from headrace.streams.settings import Settings
from headrace.streams.topics.tail import Tail

pytestmark = pytest.mark.broker


async def send(settings: Settings, topic: str, first: int, last: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
        sent = [await producer.send(topic, b"%d" % n, partition=0) for n in range(first, last)]
        await asyncio.gather(*sent)


@pytest.mark.parametrize("more", [3, 30], ids=["shorter", "longer"])
async def test_a_topic_made_again_is_read_from_its_beginning(settings, eventually, caplog, more):
    topic, got = settings.name("one"), []
    await make_topic(settings, topic, 1)
    await send(settings, topic, 0, 10)
    tail = Tail(settings, topic, lambda batch: got.extend(int(r.value) for r in batch))
    async with tail:
        await eventually(lambda: got == list(range(10)))
        got.clear()
        await delete_topic(settings, topic)
        await make_again(settings, topic, 1)
        await send(settings, topic, 100, 100 + more)
        await eventually(lambda: got == list(range(100, 100 + more)), 20)
        assert tail.lag() == 0
        assert tail.position == {(topic, 0): more}
        await send(settings, topic, 0, 2)
        await eventually(lambda: got[more:] == [0, 1])
    assert "was deleted and made again" in caplog.text
