"""The client of the request topic for programs without an event loop, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from headrace.serving.requests.client import RecClient
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings

T = TypeVar("T")


class BlockingRecClient:
    """A ``RecClient`` in a thread of its own: its methods wait. A context manager, for any number of threads.

    Parameters
    ----------
    settings, name, timeout_s, max_pending
        As for ``RecClient``.
    """

    def __init__(
        self, settings: Settings, name: str = "client", *, timeout_s: float = 2.0, max_pending: int = 10_000
    ) -> None:
        self._client = RecClient(settings, name, timeout_s=timeout_s, max_pending=max_pending)
        self._lock = threading.Lock()  # of starts and stops
        self._gate = threading.Lock()  # of the loop: nothing is given to it once it ends
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> Self:
        """Connect. Raises as ``RecClient.start``; after an error nothing is left open."""
        with self._lock:
            if self._loop is not None:
                raise HeadraceError("the client is started already")
            loop = asyncio.new_event_loop()
            # A daemon: a program that forgets to stop the client can end.
            self._thread = threading.Thread(target=loop.run_forever, name="rec-client", daemon=True)
            self._thread.start()
            self._loop = loop
            try:
                self._wait(self._client.start())
            except BaseException:
                self._end(loop)
                raise
        return self

    def stop(self) -> None:
        """Disconnect; calls that still wait raise ``HeadraceError``."""
        with self._lock:
            if self._loop is not None:
                self._end(self._loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop the client, its loop and its thread."""
        try:
            self._wait(self._client.stop())
        finally:
            with self._gate:
                self._loop = None
            asyncio.run_coroutine_threadsafe(_others_have_ended(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def recommend(self, request: RecRequest, timeout_s: float | None = None) -> RecReply:
        """Ask for a list. Raises as ``RecClient.recommend``."""
        return self._wait(self._client.recommend(request, timeout_s))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the client's loop and wait for it."""
        with self._gate:
            if self._loop is None:
                work.close()
                raise HeadraceError("the client is not started")
            done = asyncio.run_coroutine_threadsafe(_uncancelled(work), self._loop)
        return done.result()

    @property
    def reply_topic(self) -> str:
        """Full name of the reply topic."""
        return self._client.reply_topic

    @property
    def pending(self) -> int:
        """Number of requests that wait for their replies."""
        return self._client.pending

    @property
    def late(self) -> int:
        """Number of replies that came after the timeout of their request."""
        return self._client.late


async def _uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; a stop is an error for its caller, who is in no task that could be cancelled."""
    try:
        return await work
    except asyncio.CancelledError:
        raise HeadraceError("the client was stopped") from None


async def _others_have_ended() -> None:
    """Wait until every other coroutine of the loop has ended: callers wait for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)
