"""What every request passes before a route: token, host, the bound of requests in flight; and is measured."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.serving.gateway.faults import FaultError, fault_answer

#: Paths without a token, which are answered however many requests are in flight.
OPEN = frozenset({"/health", "/ready"})
#: Largest head of a request, bytes: its path, its query and its headers.
HEAD_BYTES = 16 * 1024
_ROUTES = frozenset(
    {"recommendations", "rank", "bulk", "events", "items", "users", "health", "ready", "openapi.json"}
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})

#: Called after every request: route, status, seconds.
Measure = Callable[[str, int, float], None]


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is of this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def route_of(scope: Scope) -> str:
    """Return the route of a request for metrics: one of few, whatever is asked for."""
    first = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
    known = first in _ROUTES and scope["method"] in _METHODS
    return f"{scope['method']} /{first}" if known else "other"


def _head_bytes(scope: Scope) -> int:
    fields = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return len(scope["raw_path"]) + len(scope["query_string"]) + fields


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    return dict(scope["headers"])


class Guard:
    """The outermost part of the gateway's application.

    Parameters
    ----------
    app
        What answers a request that passes.
    token
        Bearer token; empty: nobody needs one. Then only requests to a name of this machine are answered, so
        that no page in a browser reads answers through a host name that it has made point here.
    most
        Requests in flight at once; one more gets 503.
    measure
        Called after every request.
    is_open
        Whether a path needs no token and is always answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        most: int,
        measure: Measure,
        is_open: Callable[[str], bool] = OPEN.__contains__,
    ) -> None:
        self._app = app
        self._is_open = is_open
        self._token = token.encode()
        self._most = most
        self._measure = measure
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP."""
        if scope["type"] != "http":
            raise RuntimeError(f"only http is answered, not {scope['type']}")
        seen = _Seen(scope, receive, send)
        began = time.perf_counter()
        self.in_flight += 1
        try:
            refused = self._refusal(scope)
            app = self._app if refused is None else fault_answer(refused.fault)
            await app(scope, seen.receive, seen.send)
        finally:
            self.in_flight -= 1
            self._measure(route_of(scope), seen.status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> FaultError | None:
        if self._is_open(scope["path"]):
            return None
        headers = _headers(scope)
        # The parser has the same bound for a head that comes in pieces, not for one that comes at once.
        if _head_bytes(scope) > HEAD_BYTES:
            return FaultError("head_too_large", f"more than {HEAD_BYTES} bytes of path, query and headers")
        if self._token:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            # Compared first, so that a wrong scheme takes as long.
            same = hmac.compare_digest(given.strip(), self._token)
            if not same or scheme.lower() != b"bearer":
                return FaultError("unauthorized", "send the header Authorization: Bearer <token>")
        elif not _local(headers.get(b"host", b"")):
            return FaultError("invalid_field", "this gateway answers only as 127.0.0.1 or localhost", "host")
        if self.in_flight > self._most:
            return FaultError("busy", f"{self._most} requests are being answered already")
        return None


def _local(host: bytes) -> bool:
    """Return whether a ``Host`` header names this machine."""
    text = host.decode("latin-1")
    name = text.rpartition(":")[0] if ":" in text and not text.endswith("]") else text
    return is_loopback(name)


class _Seen:
    """Sees the status of an answer; closes the connection after one whose body was not read to its end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        headers = _headers(scope)
        self._unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._unread:
                headers: Any = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
        await self._send(message)
