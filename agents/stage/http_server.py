"""An HTTP server in the event loop of a process with other work, too: uvicorn, without its own ways to end.

Uvicorn takes signals and ends the process by itself when it is the program. Here the process is somebody
else's: it is started and stopped from outside, and a port that cannot be had is an error like others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from h11 import IDLE
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from headrace.serving.gateway.guard import HEAD_BYTES
from headrace.streams.errors import ConfigError

log = logging.getLogger(__name__)

#: An idle connection is closed after this, s.
IDLE_S = 30
#: Requests that are being answered at a stop have so long to end, s.
DRAIN_S = 5
#: Connections at once.
CONNECTIONS = 4096


def listen(host: str, port: int, role: str = "gateway") -> socket.socket:
    """Return a socket that is bound; raise ``ConfigError`` when the address of the role cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
    except OSError as exc:
        raise ConfigError(f"HEADRACE_{role.upper()}_HOST={host}: {exc.strerror or exc}") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as exc:
        bound.close()
        raise ConfigError(f"HEADRACE_{role.upper()}_PORT={port}: {exc.strerror or exc}") from exc
    bound.setblocking(False)
    return bound


class _Server(uvicorn.Server):
    """Leaves the signals to the process, and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def _protocol(head_s: float) -> type[H11Protocol]:
    class Protocol(H11Protocol):
        """Closes a connection whose head does not come within ``head_s``: the first one, and later ones."""

        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _look(self) -> None:
            if self.conn.their_state is not IDLE:
                self._unwatch()
            elif self._waiting is None and self.conn.trailing_data[0]:
                self._watch()

        def _watch(self) -> None:
            self._waiting = self.loop.call_later(head_s, self._too_slow)

        def _unwatch(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _too_slow(self) -> None:
            self._waiting = None
            if not self.transport.is_closing():
                self.transport.abort()

    return Protocol


class HttpServer:
    """Serves an application on one address.

    Parameters
    ----------
    app
        The application.
    host, port
        Where.
    head_s
        Longest time for the head of a request, s.
    role
        Whose settings have the address.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, head_s: float, role: str = "gateway") -> None:
        self._host, self._port, self._role = host, port, role
        config: dict[str, Any] = {
            "http": _protocol(head_s),
            "ws": "none",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,
            "timeout_keep_alive": IDLE_S,
            "timeout_graceful_shutdown": DRAIN_S,
            "h11_max_incomplete_event_size": HEAD_BYTES,
            "limit_concurrency": CONNECTIONS,
        }
        self._server = _Server(uvicorn.Config(app, **config))
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; on return, connections are answered. Raises ``ConfigError``."""
        # One line for each connection that comes or each odd request is for nobody.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        bound = listen(self._host, self._port, self._role)
        self._running = asyncio.create_task(self._server.serve(sockets=[bound]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._running, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._running.done():
            self._running.result()

    async def wait(self) -> None:
        """Wait until the server has ended; raise its error."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def stop(self) -> None:
        """Take no new connections, finish what is being answered (``DRAIN_S``), then close."""
        self._server.should_exit = True
        if self._running is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
