"""Measures how late the timers of the event loop are: what holds the loop delays everything by as much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mode import Service

#: Time between two timers, s. Whatever holds the loop for longer than this is seen.
EVERY_S = 0.02


class LoopProbe(Service):  # type: ignore[misc]
    """Sets a timer again and again.

    Parameters
    ----------
    late
        Called with the lateness of each, s.
    """

    mundane_level = "debug"

    def __init__(self, late: Callable[[float], None], **kwargs: Any) -> None:
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Set the first timer."""
        self._set(asyncio.get_running_loop())

    async def on_stop(self) -> None:
        """Set none any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + EVERY_S
        self._timer = loop.call_later(EVERY_S, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._late(max(0.0, loop.time() - self._due))
        self._set(loop)
