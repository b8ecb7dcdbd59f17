"""Many lists in one request of HTTP, over the topic of requests that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from headrace.serving.gateway.faults import FaultError, fault_of, status_of
from headrace.serving.gateway.requests import Asked, RequestIn
from headrace.streams.errors import HeadraceError, RejectedError
from headrace.streams.messages.schemas import ErrorInfo, RecReply

#: Most requests in one body, and in one process at once: a gateway that stops leaves little behind.
MOST, MOST_WAITING = 200, 2000
#: Part of the requests of HTTP in flight that may be such ones: lists that somebody waits for need the rest.
SHARE = 0.25

#: Sends a request; returns the body of its reply.
Ask = Callable[[Asked], Awaitable[bytes]]


class BulkAnswer(msgspec.Struct):
    """One reply for each request, in their order: a list, or an ``error``."""

    replies: list[RecReply]


class _Verdict(msgspec.Struct):
    error: ErrorInfo | None = None


class Room:
    """Bounds how many bulk requests wait.

    Parameters
    ----------
    in_flight
        Requests of HTTP that the gateway answers at once.
    """

    def __init__(self, in_flight: int) -> None:
        self._most_calls = max(1, int(SHARE * in_flight))
        self._calls = self._waiting = 0

    @contextmanager
    def take(self, requests: int) -> Iterator[None]:
        """Hold the room for one body; raise ``FaultError`` when there is none."""
        if self._calls >= self._most_calls or self._waiting + requests > MOST_WAITING:
            raise FaultError("busy", "too many bulk requests wait already")
        self._calls, self._waiting = self._calls + 1, self._waiting + requests
        try:
            yield
        finally:
            self._calls, self._waiting = self._calls - 1, self._waiting - requests


def check_number(bodies: Sequence[bytes]) -> None:
    """Raise ``FaultError`` when there are too many requests in one body."""
    if len(bodies) > MOST:
        raise FaultError("too_large", f"{len(bodies)} requests, at most {MOST} are answered together")


async def replies_to(bodies: Sequence[bytes], requests: RequestIn, ask: Ask) -> list[bytes]:
    """Ask for all lists at once; return the reply to each request, in their order.

    A bad request stops no good one, and is not sent. One without a reply gets an error.
    """
    return list(await asyncio.gather(*(_one(body, requests, ask) for body in bodies)))


async def _one(body: bytes, requests: RequestIn, ask: Ask) -> bytes:
    try:
        asked = requests.from_body(body)
    except RejectedError as exc:
        return msgspec.json.encode(requests.refusal(body, exc))
    try:
        return await ask(asked)
    except (HeadraceError, TimeoutError) as exc:
        fault = fault_of(exc, asked.request.request_id)
        return msgspec.json.encode(RecReply(fault.request_id, error=fault.error))


def bulk_answer(replies: Sequence[bytes]) -> tuple[bytes, int]:
    """Return the answer and its status: 200 all lists came, 207 some; else that of the first error."""
    errors = [msgspec.json.decode(reply, type=_Verdict).error for reply in replies]
    failed = [error for error in errors if error is not None]
    status = 207 if failed else 200
    if failed and len(failed) == len(errors):
        status = status_of(failed[0].code)
    return b'{"replies":[%b]}' % b",".join(replies), status
