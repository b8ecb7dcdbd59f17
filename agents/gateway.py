"""gateway: reads `items`, `users` on demand; answers HTTP; writes `events`, `items`, `users`, requests.

For services that do not speak Kafka. It asks for lists over the request topic like every caller, with one
consumer of replies for the process, and keeps nothing. The routes: ``serving/gateway/``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.stage.http_server import HttpServer
from headrace.agents.stage.http_token import token_of
from headrace.agents.stage.kept_lookup import KeptLookup
from headrace.agents.stage.outbox import Outbox
from headrace.agents.wiring import Wiring
from headrace.serving.gateway.backend import Landed, Topic
from headrace.serving.gateway.guard import Guard
from headrace.serving.gateway.kept import KeptItem, KeptUser
from headrace.serving.gateway.records import Fresh
from headrace.serving.gateway.routes import Routes
from headrace.serving.requests.client import RecClient
from headrace.streams.metrics import Sample
from headrace.streams.topics import flow

FLOW = flow.agent("gateway")
log = logging.getLogger(__name__)

#: Longest wait for the broker to take events, s.
WRITE_S = 10.0
#: Longest wait for the broker in a check of readiness, s; what it said counts for so long, s.
ASK_S, SAID_S = 2.0, 1.0


class Client(RecClient):
    """The client of callers, which also says whether it could ask now."""

    @property
    def trouble(self) -> str:
        """Why no request can be sent now; empty when one can."""
        if self._link is None or self._reading is None or self._stopping is not None:
            return "the client is not connected"
        return self._trouble


class Installation:
    """What is behind the routes: the broker and Redis (``serving/gateway/backend.py``).

    Parameters
    ----------
    wiring
        Settings, producer, store, clock.
    client
        Asks for lists.
    """

    def __init__(self, wiring: Wiring, client: Client) -> None:
        self._wiring = wiring
        self._client = client
        settings, topics = wiring.settings, wiring.topics
        self.outbox = Outbox(wiring.sender, settings.max_message_bytes, WRITE_S)
        self._kept = KeptLookup(wiring, topics.users, topics.items)
        self._topics: dict[Topic, str] = {
            "events": topics.events,
            "items": topics.items,
            "users": topics.users,
        }
        self._said: tuple[float, str] = (float("-inf"), "")
        self._asking = asyncio.Lock()

    async def ask(self, body: bytes, user_id: str, timeout_s: float, traceparent: str = "") -> bytes:
        """Send a request for a list to the topic `rec-requests`; return the reply's body."""
        return await self._client.request(
            body, user_id.encode(), timeout_s=timeout_s, traceparent=traceparent
        )

    async def ask_in_bulk(self, body: bytes, user_id: str, timeout_s: float, traceparent: str = "") -> bytes:
        """Send a request for a list to the topic `rec-requests-bulk`; return the reply's body."""
        return await self._client.request(
            body, user_id.encode(), timeout_s=timeout_s, bulk=True, traceparent=traceparent
        )

    async def write(self, topic: Topic, records: Sequence[Fresh]) -> list[Landed | Exception]:
        """Write records."""
        return await self.outbox.put(self._topics[topic], records)

    async def user(self, user_id: str, names: bool) -> KeptUser | None:
        """Return what is kept of a user."""
        return await self._kept.user(user_id, names)

    async def item(self, item_id: str) -> KeptItem | None:
        """Return what is kept of an item."""
        return await self._kept.item(item_id)

    async def trouble(self) -> str:
        """Return why no list can be asked for now; the broker is asked once in ``SAID_S`` at most."""
        async with self._asking:
            when, said = self._said
            if self._wiring.clock.monotonic() - when >= SAID_S:
                said = await self._ask_broker()
                self._said = (self._wiring.clock.monotonic(), said)
        return self._client.trouble or said

    async def _ask_broker(self) -> str:
        try:
            async with asyncio.timeout(ASK_S):
                there = await self._wiring.sender.list_topics()
        except (KafkaError, TimeoutError, OSError) as exc:
            return f"the broker does not answer: {exc!r}"
        topics = self._wiring.topics
        missing = {*self._topics.values(), topics.requests, topics.bulk_requests} - there.keys()
        return f"missing topics: {', '.join(sorted(missing))}" if missing else ""


class Gateway(Service):
    """The HTTP server of the process. It ends what it is answering before it stops."""

    def __init__(self, wiring: Wiring) -> None:
        settings = wiring.settings
        self._wiring = wiring
        self._client = Client(settings, settings.gateway_name)
        self._installation = Installation(wiring, self._client)
        refused = partial(wiring.metrics.count, "headrace_gateway_refused_total")
        routes = Routes(settings, self._installation, refused, wiring.clock)
        self._guard = Guard(routes.app(), token_of(settings), settings.gateway_in_flight, self._measure)
        self._server = HttpServer(
            self._guard, settings.gateway_host, settings.gateway_port, settings.gateway_body_s
        )
        wiring.metrics.read(lambda: [Sample("headrace_gateway_open_requests", self._guard.in_flight)])
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Gateway"

    def _measure(self, route: str, status: int, seconds: float) -> None:
        self._wiring.metrics.count("headrace_gateway_requests_total", route, str(status))
        self._wiring.metrics.observe("headrace_gateway_seconds", seconds, route)

    async def on_start(self) -> None:
        """Connect to the broker, then listen."""
        await self._client.start()
        await self._server.start()
        settings = self._wiring.settings
        log.info(
            "the gateway answers at http://%s:%d", settings.gateway_host, settings.gateway_port,
            extra={"action": "gateway_up", "port": settings.gateway_port},
        )  # fmt: skip

    @Service.task
    async def _serve(self) -> None:
        await self._server.wait()

    async def on_stop(self) -> None:
        """Stop listening, finish what is being answered, disconnect."""
        await self._server.stop()
        await self._installation.outbox.close()
        await self._client.stop()
