"""The application of the gateway without a broker: its backend is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from headrace.serving.gateway.backend import Landed, Topic
from headrace.serving.gateway.guard import Guard
from headrace.serving.gateway.records import Fresh
from headrace.serving.gateway.routes import Routes
from headrace.streams.settings import Settings


class Memory:
    """A backend in memory: writes go to lists, requests wait until they are let go."""

    def __init__(self) -> None:
        self.written: list[tuple[Topic, Fresh]] = []
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.asked = asyncio.Semaphore(0)
        self.in_bulk: list[bytes] = []
        self.parents: list[str] = []
        self.broken = False
        self.away: Exception | None = None

    async def ask(self, body: bytes, user_id: str, timeout_s: float, traceparent: str = "") -> bytes:
        self.parents.append(traceparent)
        self.asked.release()
        await self.let_go.wait()
        return b'{"request_id":"r"}'

    async def ask_in_bulk(self, body: bytes, user_id: str, timeout_s: float, traceparent: str = "") -> bytes:
        self.in_bulk.append(body)
        if self.away is not None:
            raise self.away
        return await self.ask(body, user_id, timeout_s, traceparent)

    async def write(self, topic: Topic, records: Sequence[Fresh]) -> list[Landed | Exception]:
        if self.broken:
            raise RuntimeError("a password")
        self.written += [(topic, record) for record in records]
        return [Landed(0, n) for n, _ in enumerate(records)]

    async def user(self, user_id: str, names: bool) -> None:
        if self.away is not None:
            raise self.away

    async def item(self, item_id: str) -> None:
        return None

    async def trouble(self) -> str:
        return "no broker"


@asynccontextmanager
async def application(
    token: str = "", most: int = 8, host: str = "127.0.0.1", **fields: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Memory, list[tuple[str, int]]]]:
    memory, measured = Memory(), list[tuple[str, int]]()
    app = Guard(
        Routes(Settings(**fields), memory).app(),
        token,
        most,
        lambda route, status, _: measured.append((route, status)),
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080") as http:
        yield http, memory, measured
