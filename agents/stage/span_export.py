"""Sends spans of requests to a collector (OpenTelemetry, OTLP over HTTP), from a thread of its own.

Only a process with an endpoint imports this: the SDK is in the extra ``otel``. A collector that is away, or
that is too slow, loses spans, which are counted; it delays no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

from mode import Service
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from headrace.serving.traces.spans import Caller, RequestSpans
from headrace.streams.metrics import Metrics, Sample
from headrace.streams.settings import Settings

log = logging.getLogger(__name__)

#: Most spans that wait for the collector: 100 requests. Few are sent at once: encoding them holds the GIL.
MOST: Final = 2048
BATCH: Final = 128
#: Spans wait at most so long for others, s.
PAUSE_S = 1.0
#: Longest wait for the collector to take spans, s; and for those that are left when the process stops.
SEND_S = 2.0
#: The SDK logs each failure of a collector that is away; we log one in so many seconds.
_SAID_S = 60.0


class _Counting(SpanExporter):
    """Sends spans; counts those that the collector took, and the others. Runs in the SDK's thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.written = self.lost = 0
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.written += len(spans)
            else:
                self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        if not self._ended:  # the SDK calls it, too
            self._ended = True
            self._exporter.shutdown()


class _OnceInAWhile(logging.Filter):
    """Lets one record of a logger through in ``_SAID_S``."""

    def __init__(self) -> None:
        super().__init__()
        self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._said < _SAID_S:
            return False
        self._said = now
        return True


class SpanExport(Service):
    """Takes the spans of requests and sends them.

    Parameters
    ----------
    settings
        The collector. Other settings of OTLP (headers, certificates, resource attributes) are the SDK's
        variables, ``OTEL_*``.
    metrics
        Where spans are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        url = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
        self._exporter = _Counting(OTLPSpanExporter(endpoint=url, timeout=SEND_S))
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=MOST,
            max_export_batch_size=BATCH,
            schedule_delay_millis=1000 * PAUSE_S,
        )
        resource = Resource.create(
            {"service.name": settings.name("headrace"), "service.namespace": "headrace"}
        )
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("headrace")
        self._made = self._refused = 0
        self._quiet = _OnceInAWhile()
        metrics.read(self._read)
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "SpanExport"

    def _read(self) -> Iterator[Sample]:
        yield Sample("headrace_spans_total", self._exporter.written, ("written",))
        yield Sample("headrace_spans_total", self._exporter.lost + self._refused, ("lost",))

    def write(self, spans: RequestSpans) -> None:
        """Take the spans of a request; when too many wait, they are lost."""
        number = 1 + len(spans.stages)
        waiting = self._made - self._exporter.written - self._exporter.lost
        if self.should_stop or waiting + number > MOST:
            self._refused += number
            return
        self._made += number
        caller = spans.caller
        parent = None if caller is None else set_span_in_context(NonRecordingSpan(_context(caller)))
        whole = self._tracer.start_span(
            "recommend",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=spans.attributes,
            start_time=_nanoseconds(spans.began),
        )
        within = set_span_in_context(whole)
        for stage, began, ended in spans.stages:
            part = self._tracer.start_span(stage, context=within, start_time=_nanoseconds(began))
            part.end(_nanoseconds(ended))
        if spans.error:
            whole.set_status(Status(StatusCode.ERROR, spans.error))
        whole.end(_nanoseconds(spans.ended))

    async def on_start(self) -> None:
        """Let the SDK say less."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._quiet)

    async def on_stop(self) -> None:
        """Send what is left, for ``SEND_S`` at most; then end the thread."""
        flushing = asyncio.get_running_loop().run_in_executor(None, self._processor.force_flush)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(flushing), SEND_S)
        self._exporter.shutdown()  # it ends the pauses between attempts; what is still there is lost
        await asyncio.get_running_loop().run_in_executor(None, self._processor.shutdown)
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._quiet)


#: Loggers of the SDK that report a collector that is away.
_LOGGERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter",)


def _context(caller: Caller) -> SpanContext:
    return SpanContext(
        caller.trace_id, caller.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
