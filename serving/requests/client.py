"""A client of the request topic. Unlike Faust's ``ask()`` it has timeouts, bounds and errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka.errors import KafkaError

from headrace.serving.requests.address import PLAIN_ID, PLAIN_TOPIC, TRACEPARENT
from headrace.serving.requests.link import Link
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

log = logging.getLogger(__name__)

#: Bounds of the pause between two attempts to connect again.
MIN_PAUSE_S, MAX_PAUSE_S = 0.1, 2.0


class RecClient:
    """Sends requests and matches replies to them. An asynchronous context manager, for one event loop.

    After an outage of the broker, and when the reply topic was deleted, the client connects again by itself
    (and makes the topic again). Replies that were written meanwhile are read.

    Parameters
    ----------
    settings
        Broker and topic prefix of the installation.
    name
        Replies come to the topic ``rec-replies-<name>``, which is created when missing. Clients with the same
        name read each other's replies and ignore them.
    timeout_s
        Default of the methods.
    max_pending
        Requests that may wait for their replies at once.
    bulk
        Whether requests go to `rec-requests-bulk`: they are answered while no other request waits.
    """

    def __init__(
        self,
        settings: Settings,
        name: str = "client",
        *,
        timeout_s: float = 2.0,
        max_pending: int = 10_000,
        bulk: bool = False,
    ) -> None:
        self.reply_topic = settings.name(f"rec-replies-{name}")
        self._settings = settings
        topics = Topics(settings)
        self._topics, self._bulk = {False: topics.requests, True: topics.bulk_requests}, bulk
        self._timeout_s = timeout_s
        self._max_pending = max_pending
        self._tag = secrets.token_hex(6)
        self._count = 0
        self._pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._given_up: dict[bytes, None] = {}  # the newest requests whose reply did not come in time
        self._late = 0
        self._decoder = msgspec.json.Decoder(RecReply)
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._trouble = ""  # why there is no connection; empty when there is one

    async def start(self) -> Self:
        """Connect; on return, the client reads the reply topic. After an error nothing is left open.

        Raises
        ------
        UnavailableError
            When no broker answers, or the reply topic cannot be made.
        HeadraceError
            When the client is running already, or is stopped meanwhile.
        """
        if self._reading is not None or self._opening is not None:
            raise HeadraceError("the client is started already")
        if self._stopping is not None and not self._stopping.done():
            await asyncio.shield(self._stopping)
        self._stopping, self._trouble = None, ""
        link = self._link = Link(self._settings, self.reply_topic)
        self._opening = asyncio.create_task(link.open())
        try:
            await self._opening
        except asyncio.CancelledError:
            await link.close()  # the connections may have been there in the very moment of the cancellation
            if self._stopping is not None:
                raise HeadraceError("the client was stopped while it was starting") from None
            raise
        finally:
            self._opening = None
        if self._stopping is not None:
            raise HeadraceError("the client was stopped while it was starting")
        self._reading = asyncio.create_task(self._read(link))
        return self

    async def _read(self, link: Link) -> None:
        """Pass on replies, for ever; connect again after an error, whatever it is."""
        while True:
            try:
                while True:
                    for record in await link.receive():
                        self._take(record)
            except (KafkaError, OSError, UnavailableError) as exc:
                self._trouble = str(exc) or type(exc).__name__
                log.warning("connecting again: %s", self._trouble, extra={"action": "broker_away"})
            except Exception as exc:
                self._trouble = f"reading replies failed: {exc!r}"
                log.exception("connecting again", extra={"action": "broker_away"})
            await link.close()
            self._link = link = await self._again(link.positions)
            self._trouble = ""
            log.info("connected again", extra={"action": "broker_back"})

    def _take(self, record: Any) -> None:
        correlation_id = dict(record.headers).get(PLAIN_ID) or b""
        waiting = self._pending.pop(correlation_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(record.value or b"")
        elif correlation_id in self._given_up:
            del self._given_up[correlation_id]
            self._late += 1

    def _give_up(self, correlation_id: bytes) -> None:
        """Remember a request whose time is over, to count its reply if that comes yet."""
        self._given_up[correlation_id] = None
        if len(self._given_up) > self._max_pending:
            del self._given_up[next(iter(self._given_up))]

    async def _again(self, positions: dict[int, int]) -> Link:
        """Open new connections; try until a broker answers."""
        pause = MIN_PAUSE_S
        while True:
            link = Link(self._settings, self.reply_topic)
            try:
                await link.open(positions)
            except UnavailableError as exc:
                self._trouble = str(exc)
            except Exception as exc:
                self._trouble = f"connecting failed: {exc!r}"
                log.exception("connecting failed", extra={"action": "broker_away"})
            else:
                return link
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)

    async def stop(self) -> None:
        """Disconnect; calls that still wait raise ``CancelledError``. It may be called at any moment."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)  # it goes on when the caller is cancelled

    async def _stop(self) -> None:
        for task in (self._opening, self._reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, HeadraceError):
                    await task
        self._reading = None
        for waiting in self._pending.values():
            waiting.cancel()
        self._pending.clear()
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def recommend(
        self, request: RecRequest, timeout_s: float | None = None, *, traceparent: str = ""
    ) -> RecReply:
        """Ask for a list. A refused request gets a reply too: look at ``reply.error``.

        With ``traceparent`` (W3C Trace Context), the worker's spans continue the caller's trace.

        Raises
        ------
        TimeoutError
            When no reply came in time.
        UnavailableError
            When no broker takes the request. While the client is connecting again, it is raised at once.
        HeadraceError
            When the client is not started or was stopped, too many requests are waiting already, or the reply
            cannot be read.
        """
        body = await self.request(
            msgspec.json.encode(request),
            request.user_id.encode(),
            timeout_s=timeout_s,
            traceparent=traceparent,
        )
        try:
            return self._decoder.decode(body)
        except UNDECODABLE as exc:
            raise HeadraceError(f"the reply cannot be read: {exc}") from exc

    async def request(
        self,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timeout_s: float | None = None,
        bulk: bool | None = None,
        traceparent: str = "",
    ) -> bytes:
        """Send any body to the request topic and return the reply's body; empty for a reply without a value.

        ``bulk`` says for this request what the parameter of the same name says for all; ``traceparent`` is as
        for ``recommend``.

        Raises as ``recommend``, but does not look at the reply.
        """
        link = self._ready()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        topic = self._topics[self._bulk if bulk is None else bulk]
        self._count += 1
        correlation_id = f"{self._tag}-{self._count}".encode()
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[correlation_id] = waiting  # before the send: the reply may arrive before it returns
        headers = [(PLAIN_TOPIC, self.reply_topic.encode()), (PLAIN_ID, correlation_id)]
        if traceparent:
            headers.append((TRACEPARENT, traceparent.encode()))
        sending = asyncio.create_task(link.send(topic, value, key, headers))
        sending.add_done_callback(_seen)
        taken = False
        try:
            async with asyncio.timeout(timeout_s) as limit:
                either: set[asyncio.Future[Any]] = {sending, waiting}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    sending.result()
                    taken = True
                return await waiting
        except (KafkaError, TimeoutError) as exc:
            if taken:
                self._give_up(correlation_id)
                raise TimeoutError(f"no reply within {timeout_s:g} s{self._because()}") from None
            if limit.expired():
                text = f"no broker took the request within {timeout_s:g} s{self._because()}"
                raise UnavailableError(text) from None
            raise UnavailableError(f"the request was not taken: {exc!r}{self._because()}") from exc
        finally:
            sending.cancel()
            self._pending.pop(correlation_id, None)

    def _ready(self) -> Link:
        """Return the connections; raise when no request can be sent now."""
        if self._stopping is not None:
            raise HeadraceError("the client was stopped")
        if self._link is None or self._reading is None:
            raise HeadraceError("the client is not started")
        if self._trouble:
            raise UnavailableError(self._trouble)
        if len(self._pending) >= self._max_pending:
            raise HeadraceError(f"{len(self._pending)} requests are waiting for replies already")
        return self._link

    def _because(self) -> str:
        return f" ({self._trouble})" if self._trouble else ""

    @property
    def pending(self) -> int:
        """Number of requests that wait for their replies."""
        return len(self._pending)

    @property
    def late(self) -> int:
        """Number of replies that came after the timeout of their request."""
        return self._late


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # else asyncio logs the error of a request whose caller has given up
