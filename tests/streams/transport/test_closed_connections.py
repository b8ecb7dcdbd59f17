"""A broker closes a connection while a request is written to it: the worker asks again, and finds it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from headrace.streams.settings import Settings
from headrace.streams.transport.patience import calm


@contextlib.asynccontextmanager
async def calmed(settings: Settings):
    client = AIOKafkaClient(bootstrap_servers=settings.brokers)
    await client.bootstrap()
    calm(client)
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.broker
def test_a_connection_that_was_just_closed_is_a_lost_connection(settings: Settings) -> None:
    async def main() -> None:
        async with calmed(settings) as client:
            node = client.get_random_node()
            conn = await client._get_conn(node)
            reader, writer = conn._reader, conn._writer
            writer.transport.abort()
            while conn._writer is not None:
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="closed"):
                writer.write(b"uvloop refuses it")
            # As before the end was read: after a reset, the reader is not at its end.
            conn._reader, conn._writer = type(reader)(), writer
            client._conns[node, ConnectionGroup.DEFAULT] = conn
            assert await client._get_conn(node) is conn
            with pytest.raises(KafkaConnectionError):
                conn.send(MetadataRequest([]))
            assert await client._get_conn(node) is not conn
            assert await asyncio.wait_for(client.force_metadata_update(), 10)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.broker
async def test_brokers_are_looked_for_whatever_went_wrong(settings: Settings, caplog) -> None:
    async with calmed(settings) as client:
        get_conn = client._get_conn

        async def fails(node_id: int, **_: object) -> None:
            client._get_conn = get_conn
            raise ZeroDivisionError

        client._get_conn = fails
        assert not await asyncio.wait_for(client.force_metadata_update(), 10)
        assert "the brokers could not be asked" in caplog.text
        assert await asyncio.wait_for(client.force_metadata_update(), 10)
