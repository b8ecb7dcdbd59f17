"""The routes of the gateway: from a request of HTTP to its answer. It holds no state and no connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.serving.gateway.answers import events_answer, where
from headrace.serving.gateway.backend import Backend, Topic
from headrace.serving.gateway.bodies import (
    JSON_TYPES,
    LINES_TYPES,
    id_in_path,
    media_type,
    query_of,
    read_body,
)
from headrace.serving.gateway.bulk import Room, bulk_answer, check_number, replies_to
from headrace.serving.gateway.faults import (
    Fault,
    FaultError,
    answer,
    fault_answer,
    fault_of,
    known_error,
    no_route,
    status_of,
)
from headrace.serving.gateway.intake import EventsIn, RowIn, split_json, split_lines
from headrace.serving.gateway.openapi import document
from headrace.serving.gateway.records import Fresh
from headrace.serving.gateway.requests import Asked, RequestIn
from headrace.serving.requests.address import TRACEPARENT
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import ErrorInfo, Item, UserProfile
from headrace.streams.settings import Settings

#: A longer ``traceparent`` is not passed on: it has 55 characters, of a later version perhaps some more.
_LONGEST_PARENT: Final = 128
#: Called with (topic, reason) of what is refused here and so never becomes a dead letter.
Refused = Callable[[str, str], None]


class _Verdict(msgspec.Struct):
    """What is looked at of a reply; the rest is passed on as it is."""

    error: ErrorInfo | None = None


class Routes:
    """The routes.

    Parameters
    ----------
    settings
        Limits of messages and of the gateway.
    backend
        What is asked and written to.
    refused
        Called for every event, item and profile that is refused.
    clock
        The time that records get.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        refused: Refused = lambda topic, reason: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._refused = refused
        self._clock = clock
        self._requests = RequestIn(settings, clock)
        self._events = EventsIn(settings)
        self._bulk = Room(settings.gateway_in_flight)
        most = settings.max_event_bytes
        self._rows: dict[Topic, Any] = {
            "items": RowIn(Item, "item_id", most),
            "users": RowIn(UserProfile, "user_id", most),
        }
        self._document = msgspec.json.encode(document())
        self._verdict = msgspec.json.Decoder(_Verdict)

    def app(self) -> Starlette:
        """Return the application, without the guard."""
        errors: dict[Any, Any] = {
            HeadraceError: known_error,
            TimeoutError: known_error,
            HTTPException: no_route,
            Exception: known_error,
        }
        app = Starlette(routes=self._table(), exception_handlers=errors)
        app.router.redirect_slashes = False  # it would send a caller to whatever its Host header names
        return app

    def _table(self) -> list[Route]:
        return [
            Route("/recommendations", self._recommend, methods=["GET", "POST"]),
            Route("/rank", self._rank, methods=["POST"]),
            Route("/bulk", self._recommend_in_bulk, methods=["POST"]),
            Route("/events", self._take_events, methods=["POST"]),
            Route("/items/{id:any}", self._row("items", self._item), methods=["GET", "PUT", "DELETE"]),
            Route("/users/{id:any}", self._row("users", self._user), methods=["GET", "PUT", "DELETE"]),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/openapi.json", self._describe),
        ]

    async def _recommend(self, request: Request) -> Response:
        if request.method == "POST":
            media_type(request, JSON_TYPES)
            asked = self._requests.from_body(await self._body(request))
        else:
            asked = self._requests.from_query(query_of(request))
        return await self._ask(asked, request)

    async def _rank(self, request: Request) -> Response:
        media_type(request, JSON_TYPES)
        asked = self._requests.from_body(await self._body(request))
        if not asked.request.candidates:
            raise FaultError("missing_field", "the items that are to be ranked", "candidates")
        return await self._ask(asked, request)

    async def _ask(self, asked: Asked, request: Request) -> Response:
        wait_s, parent = self._wait_s(asked), _parent(request)
        try:
            reply = await self._backend.ask(asked.body, asked.request.user_id, wait_s, parent)
        except (HeadraceError, TimeoutError) as exc:
            return fault_answer(fault_of(exc, asked.request.request_id))
        error = self._verdict.decode(reply).error
        if error is None:
            return answer(reply)
        return answer(reply, status_of(error.code), error.retry_after_ms)

    async def _recommend_in_bulk(self, request: Request) -> Response:
        lines = media_type(request, JSON_TYPES | LINES_TYPES) in LINES_TYPES
        body = await self._body(request)
        bodies = split_lines(body) if lines else split_json(body)
        check_number(bodies)
        with self._bulk.take(len(bodies)):
            ask = partial(self._ask_in_bulk, _parent(request))
            replies = await replies_to(bodies, self._requests, ask)
        return answer(*bulk_answer(replies))

    async def _ask_in_bulk(self, parent: str, asked: Asked) -> bytes:
        wait_s = self._settings.gateway_bulk_s
        return await self._backend.ask_in_bulk(asked.body, asked.request.user_id, wait_s, parent)

    def _wait_s(self, asked: Asked) -> float:
        return (asked.request.deadline_ms + self._settings.gateway_reply_ms) / 1000

    async def _take_events(self, request: Request) -> Response:
        lines = media_type(request, JSON_TYPES | LINES_TYPES) in LINES_TYPES
        verdicts = self._events.read(await self._body(request), lines, self._clock.now_ms())
        for verdict in verdicts:
            if verdict.refused is not None:
                self._refused("events", verdict.refused.reason)
        records = [verdict.record for verdict in verdicts if verdict.record is not None]
        landed = await self._backend.write("events", records) if records else []
        return answer(*events_answer(verdicts, landed))

    def _row(
        self, topic: Topic, read: Callable[[Request, str], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the route of an item or a user: read it, or write its record, or its tombstone."""
        row_in = self._rows[topic]

        async def route(request: Request) -> Response:
            row_id = id_in_path(request, row_in.field)
            if request.method in ("GET", "HEAD"):
                kept = await read(request, row_id)
                if kept is None:
                    raise FaultError("unknown", f"nothing is kept of this id in {topic}", row_in.field)
                return answer(kept)
            if request.method == "PUT":
                media_type(request, JSON_TYPES)
                record = self._read_row(topic, row_id, await self._body(request))
            else:
                record = Fresh(row_id.encode(), None, self._clock.now_ms())
            (landed,) = await self._backend.write(topic, [record])
            if isinstance(landed, Exception):
                raise landed
            return answer(where(topic, landed))

        return route

    def _read_row(self, topic: Topic, row_id: str, body: bytes) -> Fresh:
        try:
            record: Fresh = self._rows[topic].read(row_id, body, self._clock.now_ms())
        except HeadraceError as exc:
            self._refused(topic, fault_of(exc).error.code)
            raise
        return record

    async def _user(self, request: Request, user_id: str) -> Any:
        names = dict(query_of(request)).get("names", "true")
        if names not in ("true", "false"):
            raise FaultError("invalid_field", "names is true or false", "names")
        return await self._backend.user(user_id, names == "true")

    async def _item(self, _: Request, item_id: str) -> Any:
        return await self._backend.item(item_id)

    async def _health(self, _: Request) -> Response:
        return answer({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        trouble = await self._backend.trouble()
        if trouble:
            return fault_answer(Fault(ErrorInfo("unavailable", trouble)))
        return answer({"status": "ready"})

    async def _describe(self, _: Request) -> Response:
        return answer(self._document)

    async def _body(self, request: Request) -> bytes:
        settings = self._settings
        return await read_body(request, settings.gateway_body_bytes, settings.gateway_body_s)


def _parent(request: Request) -> str:
    """Return the ``traceparent`` of a request; empty without one. Workers look whether it is correct."""
    value = request.headers.get(TRACEPARENT, "")
    return value if len(value) <= _LONGEST_PARENT else ""
