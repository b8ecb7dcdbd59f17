"""A worker of a few lines that answers requests, with any fault that is wanted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from headrace.serving.requests.address import ReplyAddress, parse_reply_address
from headrace.streams.settings import Settings

#: Makes the reply of a request: topic, partition, key, value, headers. None: no reply.
Answer = Callable[[dict[str, Any], ReplyAddress], Any]


@asynccontextmanager
async def answering(settings: Settings, answer: Answer) -> AsyncIterator[None]:
    """Answer every request to the installation with ``answer``."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.brokers, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers)
    await consumer.start()
    await producer.start()
    consumer.assign([TopicPartition(settings.name("rec-requests"), p) for p in range(2)])

    async def serve() -> None:
        async for record in consumer:
            address = parse_reply_address(record.headers)
            assert address is not None
            if (reply := answer(json.loads(record.value), address)) is not None:
                topic, partition, key, value, headers = reply
                await producer.send_and_wait(topic, value, key, partition, headers=headers)

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await consumer.stop()
        await producer.stop()
