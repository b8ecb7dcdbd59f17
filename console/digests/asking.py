"""Asks for many lists, a bounded number at a time; waits out what comes back, and gives up what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.schemas import ErrorInfo, RecReply, RecRequest

#: A request without a reply is sent so often.
TRIES = 3
#: Pause before a request that no broker took is sent again, s.
PAUSE_S = 1.0
#: The failure of a user whose request was never answered.
NO_REPLY = "no_reply"


class StalledError(HeadraceError):
    """No reply has come for a long time."""


class Asking:
    """Sends requests and takes replies.

    Parameters
    ----------
    ask
        Sends a request and returns its reply within a time, s; raises as ``RecClient.recommend``.
    take
        Gets every reply, with the number of its request.
    in_flight
        Requests that wait for their replies at once.
    timeout_s
        A request is sent again after it. When no reply at all has come for so long, nothing is asked any
        more.
    clock
        Time.
    """

    def __init__(
        self,
        ask: Callable[[RecRequest, float], Awaitable[RecReply]],
        take: Callable[[int, RecReply], None],
        *,
        in_flight: int,
        timeout_s: float,
        clock: Clock = SYSTEM,
    ) -> None:
        self._ask, self._take = ask, take
        self._in_flight, self._timeout_s = in_flight, timeout_s
        self._clock = clock
        self._heard = clock.monotonic()

    async def run(self, requests: Iterator[tuple[int, RecRequest]]) -> None:
        """Ask for all; return when each has a reply, or was given up.

        Raises
        ------
        StalledError
            When no reply came for ``timeout_s``.
        UnavailableError
            When no broker took a request for so long.
        """
        self._heard = self._clock.monotonic()
        tasks = [asyncio.create_task(self._some(requests)) for _ in range(self._in_flight)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _some(self, requests: Iterator[tuple[int, RecRequest]]) -> None:
        for number, request in requests:
            self._take(number, await self._one(request))

    async def _one(self, request: RecRequest) -> RecReply:
        tries = 0
        while tries < TRIES:
            try:
                reply = await self._ask(request, self._timeout_s)
            except TimeoutError:
                tries += 1
                if self._silent():
                    raise StalledError(f"no reply for {self._timeout_s:g} s") from None
            except UnavailableError:
                if self._silent():
                    raise
                await self._clock.sleep(PAUSE_S)
            else:
                self._heard = self._clock.monotonic()
                return reply
        text = f"sent {TRIES} times, waited {self._timeout_s:g} s each time"
        return RecReply(request.request_id, error=ErrorInfo(NO_REPLY, text))

    def _silent(self) -> bool:
        return self._clock.monotonic() - self._heard >= self._timeout_s
