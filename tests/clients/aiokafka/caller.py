"""A bare aiokafka caller for ``headrace conformance``. Arguments: the brokers and the reply topic."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def main(brokers: str, replies: str) -> None:
    producer, consumer = (kind(bootstrap_servers=brokers) for kind in (AIOKafkaProducer, AIOKafkaConsumer))
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition(replies, p) for p in await producer.partitions_for(replies)])
    await consumer.seek_to_end()
    waiting: dict[bytes, asyncio.Future[bytes]] = {}

    async def read() -> None:
        async for record in consumer:
            future = waiting.pop(dict(record.headers).get("correlation_id", b""), None)
            if future is not None and not future.done():
                future.set_result(record.value or b"")

    async def ask(number: str, topic: str, timeout_ms: str, key: str, body: str) -> None:
        waiting[number.encode()] = future = asyncio.get_running_loop().create_future()
        headers = [("reply_to", replies.encode()), ("correlation_id", number.encode())]
        try:
            async with asyncio.timeout(int(timeout_ms) / 1000):
                await producer.send_and_wait(topic, body.encode(), key=key.encode(), headers=headers)
                print(f"{number}\treply\t{(await future).decode()}", flush=True)
        except TimeoutError:
            print(f"{number}\ttimeout", flush=True)
        finally:
            waiting.pop(number.encode(), None)

    reading = asyncio.create_task(read())
    print("ready", flush=True)
    asking = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        asking.add(asyncio.create_task(ask(*line.rstrip("\n").split("\t", 4))))
    await asyncio.gather(*asking)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    await consumer.stop()
    await producer.stop()


asyncio.run(main(*sys.argv[1:]))
