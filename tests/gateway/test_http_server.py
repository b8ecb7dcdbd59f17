"""The HTTP server on a real socket: slow and broken callers, a stop that finishes what is in flight."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest
from gateways import caller

from headrace.agents.stage.http_server import HttpServer, listen
from headrace.demo.embedded import free_port
from headrace.serving.gateway.guard import HEAD_BYTES
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings


class Echo:
    """Answers 200 when it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.began = asyncio.Event()
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        self.began.set()
        await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Served:
    """A server that runs; ``raw`` talks to it byte by byte."""

    def __init__(self, head_s: float = 5.0) -> None:
        self.echo = Echo()
        self.port = free_port()
        self.server = HttpServer(self.echo, "127.0.0.1", self.port, head_s)

    async def __aenter__(self) -> Served:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.echo.let_go.set()
        await self.server.stop()

    async def raw(self, *parts: bytes) -> bytes:
        """Send bytes; return all that comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
        try:
            return await asyncio.wait_for(reader.read(), 5)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def test_a_head_that_does_not_come_is_given_up() -> None:
    async with Served(head_s=0.1) as served:
        assert await served.raw() == b""
        assert await served.raw(b"GET / HTTP/1.1\r\nHost: x\r\n") == b""
        assert served.echo.requests == 0


async def test_a_second_head_that_does_not_come_is_given_up() -> None:
    async with Served(head_s=0.1) as served:
        first = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await served.raw(first, b"GET / HTTP/1.1\r\nHo")
        assert answer.count(b"200 OK") == 1
        assert served.echo.requests == 1


async def test_an_answer_may_take_longer_than_a_head() -> None:
    async with Served(head_s=0.05) as served:
        served.echo.let_go.clear()
        asyncio.get_running_loop().call_later(0.2, served.echo.let_go.set)
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{served.port}/")).text == "ok"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2 * HEAD_BYTES,  # it never ends
        b"GET /" + b"x" * 2 * HEAD_BYTES,
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
    ],
)
async def test_broken_heads_get_400_and_no_further(head: bytes) -> None:
    async with Served() as served:
        answer = await served.raw(head)
        assert answer.startswith(b"HTTP/1.1 400"), answer[:100]
        assert served.echo.requests == 0


async def test_a_stop_finishes_what_is_in_flight_and_takes_nothing_new() -> None:
    async with Served() as served, httpx.AsyncClient() as http:
        served.echo.let_go.clear()
        url = f"http://127.0.0.1:{served.port}/"
        waiting = asyncio.create_task(http.get(url))
        await served.echo.began.wait()
        stopping = asyncio.create_task(served.server.stop())

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            except OSError:
                return True
            writer.close()
            return False

        while not await refused():
            await asyncio.sleep(0.01)
        assert not waiting.done()
        served.echo.let_go.set()
        assert (await waiting).text == "ok"
        await asyncio.wait_for(stopping, 5)


async def test_signals_stay_with_the_process() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with Served():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_port_that_is_taken_is_an_error_of_the_settings() -> None:
    async with Served() as served:
        with pytest.raises(ConfigError, match=f"HEADRACE_GATEWAY_PORT={served.port}"):
            await HttpServer(Echo(), "127.0.0.1", served.port, 5.0).start()
    with pytest.raises(ConfigError, match="HEADRACE_GATEWAY_HOST"):
        listen("no-such-host.invalid", 1)
    assert caller(Settings(gateway_port=served.port)).base_url.port == served.port
