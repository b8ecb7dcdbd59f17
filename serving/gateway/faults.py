"""Errors as HTTP answers: which status a code has, and the body, which is the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.streams.errors import HeadraceError, RejectedError, UnavailableError
from headrace.streams.messages.schemas import ErrorInfo

#: Codes with another status than 400: those of the contract, and those that only the gateway has.
STATUS: Mapping[str, int] = {
    "too_large": 413,
    "internal": 500,
    "unauthorized": 401,
    "unknown": 404,
    "no_such_path": 404,
    "no_such_method": 405,
    "slow_body": 408,
    "media_type": 415,
    "head_too_large": 431,
    "rate_limited": 429,
    "overloaded": 503,
    "unavailable": 503,
    "busy": 503,
    "no_reply": 504,
}
#: Seconds after which a caller that got one of ``LATER`` may try again, when nothing else is known.
RETRY_AFTER_S = 1
#: Statuses of answers that say when to try again.
LATER = frozenset({429, 503})
JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class Fault(msgspec.Struct, omit_defaults=True):
    """Body of every answer that is an error."""

    error: ErrorInfo
    request_id: str = ""


class FaultError(HeadraceError):
    """A request of HTTP that gets an error.

    Parameters
    ----------
    code
        A code of the contract, or one of ``STATUS``.
    message
        A sentence for people.
    field
        Name of the wrong field.
    request_id
        Of the request for a list, when it is known.
    """

    def __init__(self, code: str, message: str, field: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(ErrorInfo(code, message, field), request_id)


def status_of(code: str) -> int:
    """Return the HTTP status of an error code; 400 of every code that refuses a message."""
    return STATUS.get(code, 400)


def answer(value: Any, status: int = 200, retry_after_ms: int = 0) -> Response:
    """Return a value (or bytes that are JSON already) as an answer; 429 and 503 say when to try again."""
    body = value if isinstance(value, bytes) else _encode(value)
    headers = {"cache-control": "no-store"}  # of one user, or true for a moment only
    if status in LATER:
        headers["retry-after"] = str(max(RETRY_AFTER_S, math.ceil(retry_after_ms / 1000)))
    return Response(body, status, headers, JSON)


def fault_answer(fault: Fault) -> Response:
    """Return the answer of an error."""
    response = answer(fault, status_of(fault.error.code))
    if response.status_code == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def fault_of(exc: Exception, request_id: str = "") -> Fault:
    """Return an error of Headrace as the body of an answer."""
    if isinstance(exc, FaultError):
        return exc.fault
    if isinstance(exc, RejectedError):
        return Fault(ErrorInfo(exc.reason, exc.detail, exc.field), request_id)
    if isinstance(exc, TimeoutError):
        return Fault(ErrorInfo("no_reply", str(exc) or "no answer in time"), request_id)
    if isinstance(exc, UnavailableError):
        return Fault(ErrorInfo("unavailable", str(exc)), request_id)
    if isinstance(exc, HeadraceError):
        return Fault(ErrorInfo("busy", str(exc)), request_id)
    return Fault(ErrorInfo("internal", type(exc).__name__), request_id)


async def known_error(_: Request, exc: Exception) -> Response:
    """Answer an error that was raised in a route."""
    return fault_answer(fault_of(exc))


async def no_route(_: Request, exc: Exception) -> Response:
    """Answer what no route takes: another path, or another method."""
    status = getattr(exc, "status_code", 404)
    codes = {404: ("no_such_path", "there is no such path"), 405: ("no_such_method", "not with this method")}
    code, text = codes.get(status, ("invalid_field", "the request is not understood"))
    response = fault_answer(Fault(ErrorInfo(code, text)))
    response.headers.update(getattr(exc, "headers", None) or {})
    return response
