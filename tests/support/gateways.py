"""A gateway that runs, and a caller of it over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from installation import worker

from headrace.demo.embedded import free_port
from headrace.streams.settings import Settings

TOKEN = "a-token-of-the-tests-0123456789"  # noqa: S105 - not a secret


def with_gateway(settings: Settings, **overrides: Any) -> Settings:
    """Return settings whose gateway has a port of its own."""
    return settings.model_copy(update={"gateway_port": free_port(), **overrides})


def url_of(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.gateway_port}"


def caller(settings: Settings, **options: Any) -> httpx.AsyncClient:
    """Return a client of the gateway; it has the token if there is one."""
    token = settings.gateway_token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=url_of(settings), headers=headers, timeout=20, **options)


@asynccontextmanager
async def gateway(settings: Settings, others: Sequence[str] = ()) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway and other roles in this process; yield a caller."""
    async with worker(settings, [*others, "gateway"]), caller(settings) as client:
        yield client
