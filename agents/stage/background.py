"""What a serving worker does beside its answers: takes what background threads made, settles its objects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from mode import Service

from headrace.serving.measured import Measured
from headrace.serving.recommender import Recommender
from headrace.streams import garbage
from headrace.streams.clock import Clock

#: How often it is looked whether another version of the towers is ready, s; every request looks, too.
TAKE_S = 0.1


class Background(Service):
    """Takes what the background threads of a serving worker made; ends them with the worker.

    Parameters
    ----------
    read
        Set when the worker has read what it answers with. Then no pass of the garbage collector looks at
        that any more.
    """

    mundane_level = "debug"

    def __init__(
        self,
        recommender: Recommender,
        measured: Measured,
        clock: Clock,
        read: Iterable[asyncio.Event] = (),
        **kwargs: Any,
    ) -> None:
        self._recommender, self._measured, self._clock, self._read = recommender, measured, clock, read
        super().__init__(**kwargs)

    @Service.task
    async def _settle(self) -> None:
        for event in self._read:
            await event.wait()
        garbage.settle()

    @Service.task
    async def _take(self) -> None:
        while not self.should_stop:
            self._recommender.swap.advance(self._clock.now_ms())
            await self.sleep(TAKE_S)

    async def on_stop(self) -> None:
        """Wait for what the threads are doing."""
        for part in (self._recommender, self._measured):
            await asyncio.to_thread(part.close)
