"""Closes consumers without waiting for a broker that does not answer."""

from __future__ import annotations

import asyncio
from typing import Any

#: Longest time that a caller waits for a consumer to close, s.
CLOSE_S = 2.0

_closing: set[asyncio.Future[None]] = set()


async def closed(consumer: Any) -> None:
    """Close a consumer (aiokafka's); what takes longer than ``CLOSE_S`` goes on by itself.

    Over TLS a connection waits until the broker says that it closes, too: 30 s when it does not say so.
    """
    closing = asyncio.ensure_future(consumer.stop())
    _closing.add(closing)
    closing.add_done_callback(_ended)
    done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
    if done:
        closing.result()


def _ended(closing: asyncio.Future[None]) -> None:
    _closing.discard(closing)
    if not closing.cancelled():
        closing.exception()  # else asyncio logs it: the connections are of no more use anyway
