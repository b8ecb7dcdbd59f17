"""One exchange with a Redis server, past redis-py's methods: these cost several times as much as all else."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from headrace.serving.store.connections import abort

_READ_BYTES = 1 << 18


async def exchange(pool: Any, packed: bytes | memoryview, count: int) -> list[Any]:
    """Send packed commands over a connection of a pool (redis-py's); return the answers, errors among them.

    Raises
    ------
    RedisError, OSError, EOFError
        When the server did not answer. The connection is closed, and sends nothing any more.
    """
    connection = await pool.get_connection()
    try:
        connection._writer.write(packed)
        return await _replies(connection._reader, count)
    except BaseException:
        await abort(connection)
        raise
    finally:
        await pool.release(connection)


async def _replies(reader: asyncio.StreamReader, count: int) -> list[Any]:
    parser = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
    replies: list[Any] = []
    while len(replies) < count:
        reply = parser.gets()
        if reply is False:  # not complete
            received = await reader.read(_READ_BYTES)
            if not received:
                raise NoConnectionError("a node closed the connection")
            parser.feed(received)
        else:
            replies.append(reply)
    return replies
