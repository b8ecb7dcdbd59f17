"""Answers bulk requests, one list after the other, while nobody waits for another one.

They are read from a topic of their own, and stay in it: few of them are in memory. Their lists are full ones,
however long they have waited. They are not logged as shown: nobody has seen them yet, and whether and when
they are shown is not known here. So nothing that was made, but not shown, rests, and nobody learns from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from headrace.agents.stage.replies_out import Sent
from headrace.serving.measured import outcome_of
from headrace.serving.requests.read import Job, Reject
from headrace.streams.metrics import Sample
from headrace.streams.transport.batches import RecordBatch

if TYPE_CHECKING:
    from headrace.agents.recommend import ServeStage

#: Most records in a batch: so many are answered before offsets are committed, and when a worker stops.
MOST = 64
#: Most batches whose replies the broker has not acknowledged: when it is slow, requests stay in their topic.
UNFINISHED = 4
#: Requests whose rows are read together.
CHUNK = 16


class BulkStage:
    """Answers bulk requests with the stage that answers all others.

    Parameters
    ----------
    serve
        That stage.
    stopping
        Returns whether no request can come, because the worker stops or its partitions are revoked.

    Attributes
    ----------
    queued
        Returns how many batches of other requests wait.
    """

    def __init__(self, serve: ServeStage, stopping: Callable[[], bool]) -> None:
        self._serve, self._stopping = serve, stopping
        self.queued: Callable[[], int] = int
        serve.wiring.metrics.read(self._read)

    def _read(self) -> Iterator[Sample]:
        yield Sample("headrace_bulk_share_ratio", self._serve.turns.share)

    async def answer(self, batch: RecordBatch) -> list[Sent]:
        """Answer every request of a batch; return when its dead letters are acknowledged.

        Returns
        -------
        The replies that are being sent; pass them to ``finish``.
        """
        serve = self._serve
        sent: list[Sent] = []
        rejects: list[Reject] = []
        records, refused = iter(batch), serve.intake.misplaced(batch)
        while part := list(islice(records, CHUNK)):
            await self._turn()
            jobs, bad = serve.read(part, refused)
            sent += serve.out.refuse(bad, serve.intake.requests.error_reply)
            rejects += bad
            self._count("", "error", len(bad))
            if jobs:
                sent += await self._chunk(jobs)
            self._serve.turns.made(*self._times())
        await serve.out.bury(batch, rejects)
        return sent

    async def _chunk(self, jobs: list[Job]) -> list[Sent]:
        serve, stages = self._serve, self._serve.recommender.data.stages
        sent: list[Sent] = []
        serve.spans.begin(jobs)
        async for job, reply, answers in serve.answers(jobs, None, self._turn):
            request, record, address = job
            sent.append(serve.out.send(record, address, reply))
            traces = serve.traces.of(serve.recommender.pipeline, request, reply, answers)
            stages.done("encode")
            serve.spans.follow(sent[-1], job, reply, answers)
            self._count(request.surface, outcome_of(reply))
            await serve.traces.write(traces)
            if len(sent) < len(jobs):
                await self._turn()
                stages.begin()
        return sent

    async def finish(self, batch: RecordBatch, sent: list[Sent]) -> None:
        """Wait until replies are acknowledged; a request whose reply was refused becomes a dead letter."""
        await self._serve.out.finish(batch, sent)

    async def _turn(self) -> None:
        """Wait until the next list may be made."""
        self._serve.turns.made(*self._times())
        await asyncio.sleep(0)  # lets the reply go out, also when there is no rest
        while wait := self._wait_s():  # noqa: ASYNC110 - how long is known; an event would wake it each time
            await asyncio.sleep(wait)

    def _wait_s(self) -> float:
        return self._serve.turns.wait_s(*self._times(), self.queued(), hurry=self._stopping())

    def _times(self) -> tuple[float, float]:
        return self._serve.wiring.clock.monotonic(), time.thread_time()

    def _count(self, surface: str, outcome: str, by: int = 1) -> None:
        if by:
            self._serve.wiring.metrics.count("headrace_bulk_replies_total", surface, outcome, by=by)
