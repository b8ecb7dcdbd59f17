"""Calls with a time limit, and connections that send nothing after they are closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

#: A call that timed out gets this much more time, once: the event loop may have been busy.
_GRACE_S = 0.005


async def within(call: Any, timeout_s: float) -> Any:
    """Return a call's result; raise ``TimeoutError`` after ``timeout_s``, even if the call does not end."""
    task = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            done, _ = await asyncio.wait({task}, timeout=_GRACE_S)
        if not done:
            raise TimeoutError(f"no answer within {timeout_s * 1000:.0f} ms")
        return task.result()
    finally:
        task.cancel()  # does nothing to a task that is done


async def abort(connection: Any) -> None:
    """Close a connection (redis-py's) and discard the bytes that it has not sent yet.

    An ordinary close would send them when the network is back: old rows would overwrite newer ones.
    """
    writer = connection._writer
    if writer is not None:
        with contextlib.suppress(OSError, ValueError):  # the socket is closed already
            sock = writer.get_extra_info("socket")
            if sock is not None:  # a closed connection over TLS has none
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    await connection.disconnect(nowait=True)
