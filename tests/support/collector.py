"""A collector of spans: a real OTLP/HTTP receiver, which can be told to refuse or to keep callers waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """What was sent, as it was parsed."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.raw: list[bytes] = []
        self.services: set[str] = set()
        self.status = 200
        self.answers = asyncio.Event()
        self.answers.set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.answers.wait()
        if self.status != 200:
            return web.Response(status=self.status)
        self.raw.append(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {a.key: a.value.string_value for a in each.resource.attributes}
            self.services.add(names["service.name"])
            for scope in each.scope_spans:
                self.spans += scope.spans
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    def whole(self) -> list[Any]:
        """Return the spans of requests."""
        return [span for span in self.spans if span.name == "recommend"]

    def below(self, whole: Any) -> list[Any]:
        """Return the spans of the stages of a request, in the order in which they began."""
        found = [span for span in self.spans if span.parent_span_id == whole.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run a collector on a free port; ``url`` is the endpoint."""
    found = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield found
    finally:
        found.answers.set()
        await runner.cleanup()


def attributes(span: Any) -> dict[str, Any]:
    """Return the attributes of a span as Python values."""
    return {each.key: _value(each.value) for each in span.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
