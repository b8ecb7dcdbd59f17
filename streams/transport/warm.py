"""What a worker waits for before it joins its group: until then, the other members keep their partitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

#: Longest time that a worker warms up, s.
WARM_UP_S = 30.0


def warm_up(app: Any) -> list[Callable[[], Awaitable[Any]]]:
    """Return the functions that an app awaits before it joins its group; changes to the list count.

    Agents run meanwhile.
    """
    functions: list[Callable[[], Awaitable[Any]]] = app.__dict__.setdefault("warm_up", [])
    return functions


async def get_warm(app: Any) -> None:
    """Await the functions of ``warm_up``, once, for ``WARM_UP_S`` at most."""
    left = warm_up(app)
    try:
        async with asyncio.timeout(WARM_UP_S):
            while left:
                await left[-1]()
                left.pop()
    except TimeoutError:
        left.clear()
        log.warning("%s joins its group before it is warm", app.conf.id, extra={"action": "cold_start"})
