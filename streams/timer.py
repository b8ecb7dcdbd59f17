"""A service that does something short again and again on the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from mode import Service


class Timer(Service):  # type: ignore[misc]
    """Rings while it runs; a subclass says what that does.

    Parameters
    ----------
    every_s
        Time from the end of one ring to when the next is due, s.
    """

    abstract = True
    mundane_level = "debug"

    def __init__(self, every_s: float, **kwargs: Any) -> None:
        self._every_s = every_s
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

    def ring(self, late_s: float) -> None:
        """Do it; it was due ``late_s`` ago, s."""
        raise NotImplementedError

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._every_s
        self._timer = loop.call_later(self._every_s, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ring(max(0.0, loop.time() - self._due))
        self._set(loop)
