"""Notes what the stages of sampled requests took, and gives it to OpenTelemetry when their replies are sent.

It times nothing: it is told what is measured anyway. Without an endpoint it is told nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace

from headrace.agents.stage.replies_out import Sent
from headrace.agents.wiring import Wiring
from headrace.serving.answering import Answer
from headrace.serving.requests.read import Job
from headrace.serving.stages import Stages
from headrace.serving.traces.spans import SHARED, RequestSpans, Time, attributes_of, caller_of, is_sampled
from headrace.streams.messages.schemas import RecReply
from headrace.streams.topics.sender import partition_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Notes:
    """Times of requests that are answered together: of all of them, and of the one whose turn it is."""

    offset: float  # between the clock of the stages and the time of day, s
    shared: list[Time] = field(default_factory=list)
    own: list[Time] = field(default_factory=list)


#: Of the requests that this task answers; None: none of them is sampled.
_notes: ContextVar[_Notes | None] = ContextVar("notes", default=None)


class SpansOut:
    """Follows requests until their replies are with the broker.

    Parameters
    ----------
    wiring
        Where spans go, and the clock.
    stages
        What measures the stages.
    """

    def __init__(self, wiring: Wiring, stages: Stages) -> None:
        self._spans, self._stages, self._clock = wiring.spans, stages, wiring.clock
        self._share, self._partitions = wiring.settings.otlp_share, wiring.settings.partitions
        if self._spans is not None:
            stages.told = _note

    def begin(self, jobs: Sequence[Job]) -> None:
        """Begin with requests that are answered together, in this task."""
        if self._spans is None:
            return
        sampled = any(self._is_sampled(job) for job in jobs)
        offset = self._clock.now_ms() / 1000 - self._stages.clock()
        _notes.set(_Notes(offset) if sampled else None)

    def follow(self, sent: Sent, job: Job, reply: RecReply, answers: Sequence[Answer]) -> None:
        """Note how long it takes until the broker has a reply; then the spans of its request are complete."""
        stages = self._stages
        begun, spans = stages.clock(), self._made(job, reply, answers)

        def there(delivery: asyncio.Task[None]) -> None:
            seconds = stages.clock() - begun
            stages.waited("send", seconds)
            if spans is None:
                return
            try:
                self._write(spans, seconds, delivery)
            except Exception:
                log.exception("a request has no spans", extra={"action": "no_spans"})

        # In a context of its own: what is timed there is not of the request whose turn it is then.
        sent.delivery.add_done_callback(there, context=Context())

    def _is_sampled(self, job: Job) -> bool:
        request, record, _ = job
        return is_sampled(request.request_id, caller_of(record.headers), self._share)

    def _made(self, job: Job, reply: RecReply, answers: Sequence[Answer]) -> RequestSpans | None:
        """Return the spans of a request up to its reply; None: it is not sampled, or they cannot be made."""
        if self._spans is None or (notes := _notes.get()) is None:
            return None
        own, notes.own = notes.own, []
        if not self._is_sampled(job):
            return None
        request, record, _ = job
        times = [
            Time(stage, began + notes.offset, ended + notes.offset)
            for stage, began, ended in (*notes.shared, *own)
        ]
        # That a request waited is known by the clock of this process, whatever that of its caller says.
        since = [time.began for time in times if time.stage == "queue"] or [record.timestamp / 1000]
        try:
            return RequestSpans(
                began=min(*since, *(time.began for time in times)),
                ended=max(time.ended for time in times),
                attributes=attributes_of(
                    request, reply, answers, partition_of(request.user_id.encode(), self._partitions)
                ),
                stages=times,
                caller=caller_of(record.headers),
            )
        except Exception:
            log.exception("request %s has no spans", request.request_id, extra={"action": "no_spans"})
            return None

    def _write(self, spans: RequestSpans, seconds: float, delivery: asyncio.Task[None]) -> None:
        """Give the spans of a request away; its reply was sent for ``seconds``, after all of its stages."""
        send = Time("send", spans.ended, spans.ended + seconds)
        error = "cancelled" if delivery.cancelled() else delivery.exception()
        whole = replace(
            spans,
            ended=send.ended,
            stages=[*spans.stages, send],
            error="" if error is None else getattr(error, "reason", "") or type(error).__name__,
        )
        if self._spans is not None:
            self._spans.write(whole)


def _note(stage: str, began: float, ended: float) -> None:
    """Note a time for the requests of this task."""
    if (notes := _notes.get()) is not None:
        (notes.shared if stage in SHARED else notes.own).append(Time(stage, began, ended))
