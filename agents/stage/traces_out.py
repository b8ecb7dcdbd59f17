"""Writes what lists were made from, for a share of the requests, when their replies are on their way."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence

import msgspec
from aiokafka.errors import MessageSizeTooLargeError

from headrace.agents.wiring import Wiring
from headrace.serving.answering import Answer
from headrace.serving.pipeline.pipeline import Pipeline
from headrace.serving.traces.made import is_traced, titles_of, traces_of
from headrace.serving.traces.record import MOST_BYTES, Trace, encode
from headrace.streams.messages.schemas import RecReply, RecRequest

log = logging.getLogger(__name__)

#: Traces are made for so long, s, at one stretch.
SLICE_S = 0.004


class TracesOut:
    """Takes what the lists of traced requests were made from; writes it.

    Parameters
    ----------
    wiring
        The producers.
    topic
        Full name of the topic of traces.
    """

    def __init__(self, wiring: Wiring, topic: str) -> None:
        self._wiring, self._topic = wiring, topic
        self._share, self._most = wiring.settings.trace_share, wiring.settings.trace_candidates

    def note(self, pipeline: Pipeline, request: RecRequest, answers: Sequence[Answer]) -> None:
        """Note what may be another when the trace is made: titles, which decide what repeats, and vectors.

        Call it before anything else may run: those that the lists were made with are read again. What was
        noted before stays.
        """
        if is_traced(request.request_id, self._share):
            for answer in answers:
                if answer.ranked is not None and answer.ranked.titles is None:
                    answer.ranked.titles = titles_of(pipeline, answer.ranked)
                    if answer.ranked.every is not None:
                        answer.ranked.every.keep()

    async def after(
        self, pipeline: Pipeline, replied: Sequence[tuple[RecRequest, RecReply, Sequence[Answer]]]
    ) -> list[Trace]:
        """Return the traces of requests whose replies are on their way. Gives way between slices of time.

        One costs about a third of a list: made before the next reply, it would hold that one up.
        """
        traces, since = list[Trace](), time.perf_counter()
        for request, reply, answers in replied:
            if time.perf_counter() - since > SLICE_S:
                await asyncio.sleep(0)
                since = time.perf_counter()
            traces += self.of(pipeline, request, reply, answers)
        return traces

    def of(
        self, pipeline: Pipeline, request: RecRequest, reply: RecReply, answers: Sequence[Answer]
    ) -> list[Trace]:
        """Return the traces of a request whose reply is on its way; none for most, and none after an error.

        What they have is copied here; titles were noted before.
        """
        if not is_traced(request.request_id, self._share):
            return []
        try:
            digest = hashlib.sha256(msgspec.json.encode(reply)).digest()
            now = self._wiring.clock.now_ms()
            return traces_of(pipeline, request, reply, digest, answers, now, self._share, self._most)
        except Exception:
            log.exception("request %s has no trace", request.request_id, extra={"action": "no_trace"})
            self._count("failed")
            return []

    async def write(self, traces: Sequence[Trace]) -> None:
        """Write traces, by the id of the request; return when the broker has acknowledged them."""
        values = await asyncio.to_thread(lambda: [encode(trace) for trace in traces])  # a millisecond each
        sent = await asyncio.gather(*map(self._taken, traces, values))
        for trace, taken in zip(traces, sent, strict=True):
            if taken:
                self._count("written")
            else:
                name = trace.request.request_id
                log.warning("the trace of request %s is too large", name, extra={"action": "no_trace"})
                self._count("too_large")

    async def _taken(self, trace: Trace, value: bytes) -> bool:
        """Return whether the broker took a record; False: it is too large for the topic, or for us."""
        if len(value) > MOST_BYTES:
            return False
        try:
            await self._wiring.sender.send_keyed(self._topic, [(trace.whole.encode(), value, None, ())])
        except MessageSizeTooLargeError:
            return False
        return True

    def _count(self, outcome: str) -> None:
        self._wiring.metrics.count("headrace_traces_total", outcome)
