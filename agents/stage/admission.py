"""Which requests are answered: not those of a caller over its rate, nor late ones under overload."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from headrace.agents.wiring import Wiring
from headrace.serving.requests.overload import Overload
from headrace.serving.requests.pace import Pace
from headrace.serving.requests.read import Job
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import ErrorInfo, RecReply

log = logging.getLogger(__name__)


class Admission:
    """Decides on requests before they are answered; what it refuses gets an error that says when to retry.

    Parameters
    ----------
    wiring
        Settings, online store (the buckets of the callers), metrics, clock.
    pace
        Says what time a request has left.
    """

    def __init__(self, wiring: Wiring, pace: Pace) -> None:
        self._wiring, self._pace, self._clock = wiring, pace, wiring.clock
        settings = wiring.settings
        self._rate, self._burst = settings.caller_rate, settings.caller_burst
        self._drops = settings.expired == "drop"
        self._overload = Overload(settings.overload_s)
        self._here, self._blind = 0, False

    def begin(self, partition: int, records: int, behind: int) -> None:
        """Note a batch: its records, and how many wait in Kafka behind it."""
        self._here = records
        self._overload.behind(partition, behind, self._clock.monotonic())

    def read(self, records: int) -> None:
        """Note that records of the batch are read, and do not wait any more."""
        self._here -= records

    def took(self, replies: Sequence[RecReply], since: float) -> None:
        """Note replies that were begun together at ``since`` (monotonic seconds) and are on their way."""
        if replies and all("deadline" in reply.degraded for reply in replies):
            now = self._clock.monotonic()
            self._overload.took(len(replies), now - since, now)

    async def admit(self, jobs: list[Job]) -> tuple[list[Job], list[tuple[Job, RecReply]]]:
        """Return the requests to answer, and the others with their error replies."""
        refused: list[tuple[Job, RecReply]] = []
        jobs = self._in_time(jobs, refused)
        if self._rate and jobs:
            jobs = await self._within_rate(jobs, refused)
        for _, reply in refused:
            if reply.error is not None:
                self._wiring.metrics.count("headrace_refused_requests_total", reply.error.code)
        return jobs, refused

    def _in_time(self, jobs: list[Job], refused: list[tuple[Job, RecReply]]) -> list[Job]:
        wait = self._overload.retry_after_s(self._here + len(jobs), self._clock.monotonic())
        if not wait or self._drops:
            return jobs
        text, passed = "more requests wait than can be answered in time", []
        for job in jobs:
            if self._pace.left(job) < 0:
                refused.append((job, _error(job, "overloaded", text, wait)))
            else:
                passed.append(job)
        return passed

    async def _within_rate(self, jobs: list[Job], refused: list[tuple[Job, RecReply]]) -> list[Job]:
        callers = [_caller(job) for job in jobs]
        tokens = [max(1, len(request.lists)) for request, _, _ in jobs]
        try:
            waits = await self._wiring.store.take_tokens(callers, tokens, self._rate, self._burst)
        except UnavailableError as exc:
            log.log(
                logging.DEBUG if self._blind else logging.WARNING,
                "requests pass without a look at the rates of their callers: %s",
                exc,
                extra={"action": "rates_unchecked"},
            )
            self._blind = True
            self._wiring.metrics.count("headrace_rate_unchecked_total", by=len(jobs))
            return jobs
        self._blind = False
        text = f"more than {self._rate:g} lists in a second by this caller"
        passed = []
        for job, wait_ms in zip(jobs, waits, strict=True):
            if wait_ms:
                refused.append((job, _error(job, "rate_limited", text, wait_ms / 1000)))
            else:
                passed.append(job)
        return passed


def _caller(job: Job) -> int:
    """Return the hash of who asks: the request says it, else it is who reads the reply topic."""
    request, _, address = job
    return hash64(f"caller {request.caller}" if request.caller else f"topic {address.topic}")


def _error(job: Job, code: str, message: str, wait_s: float) -> RecReply:
    error = ErrorInfo(code, message, retry_after_ms=max(1, math.ceil(wait_s * 1000)))
    return RecReply(job[0].request_id, error=error)
