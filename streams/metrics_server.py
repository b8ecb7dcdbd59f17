"""Serves the metrics of a process at ``/metrics``, for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from mode import Service
from prometheus_client.exposition import choose_encoder

from headrace.streams.errors import ConfigError
from headrace.streams.metrics import Metrics


class _Collected:
    """Families that were collected already; an encoder takes it for a registry."""

    def __init__(self, families: Sequence[Any]) -> None:
        self._families = families

    def collect(self) -> Sequence[Any]:
        return self._families


class MetricsServer(Service):  # type: ignore[misc]
    """Answers ``GET /metrics``.

    The values are read in the event loop, which alone changes them. They become text in another thread.

    Parameters
    ----------
    metrics
        What is served.
    host, port
        Where.

    Raises
    ------
    ConfigError
        At the start, when the port cannot be had: every process of a host needs its own.
    """

    mundane_level = "debug"

    def __init__(self, metrics: Metrics, host: str, port: int, **kwargs: Any) -> None:
        self._metrics, self._host, self._port = metrics, host, port
        self._runner: web.AppRunner | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as exc:
            raise ConfigError(
                f"HEADRACE_METRICS_PORT={self._port}: {exc.strerror}; every process of a host needs its own"
            ) from exc

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        families = list(self._metrics.registry.collect())
        text: bytes = await asyncio.to_thread(encode, _Collected(families))
        return web.Response(body=text, headers={"Content-Type": kind})
