"""Sends the sorted events of an import; goes on where an earlier run of it was cut off."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import pyarrow as pa

from headrace.console.imported.arriving import arrived
from headrace.console.imported.batches import Made, batches_of
from headrace.console.imported.jobs import Job, Jobs
from headrace.console.imported.sorting import Runs
from headrace.console.screen import Reporter
from headrace.streams.clock import Clock
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

#: Events that are sent together; a run that is cut off has to find out about them.
TOGETHER = 100_000
#: How often a run says that it is at work, s.
TOUCH_S = 5.0
#: So long after a run last said so, nothing of it is under way any more, s.
SETTLED_S = 60.0


class Sending:
    """Sends the events of one import.

    Parameters
    ----------
    settings, sender, jobs
        The installation, the producer, and where is kept what is known.
    clock
        The time.
    rate
        Most events in a second; 0: any number.
    """

    def __init__(
        self, settings: Settings, sender: BatchSender, jobs: Jobs, clock: Clock, rate: float
    ) -> None:
        self._settings, self._sender, self._jobs = settings, sender, jobs
        self._clock, self._rate = clock, rate
        self._topic = Topics(settings).events
        self._run = secrets.token_hex(4)
        self._touched = clock.monotonic()

    async def take_over(self, job: Job, partitions: int, tell: Callable[[str], None]) -> int:
        """Take an import over from the run before this one; return how many of its events are in the topic.

        Raises
        ------
        UnavailableError
            Another run of it is at work.
        ConfigError
            The topic is not the one that it began with.
        """
        if job.state == "sending":
            if job.partitions not in (0, partitions):  # 0: it was found in the topic
                raise ConfigError(f"{self._topic} had {job.partitions} partitions when this import began")
            job = await self._settled(job, tell)
            job.places = await arrived(self._settings, self._topic, job.id, job.places)
        job.state, job.partitions = "sending", partitions
        self._touch(job)
        return min((until for _, until in job.places.values()), default=0)

    async def _settled(self, job: Job, tell: Callable[[str], None]) -> Job:
        """Wait until nothing of a run that was killed is under way."""
        left = SETTLED_S - max(0.0, (self._clock.now_ms() - job.touched_ms) / 1000)
        if not job.run or left <= 0:
            return job
        tell(f"this import was cut off: waiting {left:.0f} s until nothing of that run is under way")
        await self._clock.sleep(left)
        if (now := self._jobs.read(job.id)).touched_ms != job.touched_ms:
            raise UnavailableError(f"another run of this import is at work ({now.run})")
        return job

    def _touch(self, job: Job) -> None:
        job.run, job.touched_ms = self._run, self._clock.now_ms()
        self._jobs.write(job)
        self._touched = self._clock.monotonic()

    async def send(self, job: Job, runs: Runs, report: Reporter) -> int:
        """Send the events that are not in the topic yet; return how many.

        Raises
        ------
        KafkaError
            The broker refuses them or does not answer. What was sent is known.
        UnavailableError
            Another run has taken over.
        """
        until = {partition: number for partition, (_, number) in job.places.items()}
        began, sent = self._clock.monotonic(), 0
        pieces = self._made(job, runs, until)
        following = asyncio.create_task(asyncio.to_thread(_next, pieces))
        try:
            while (piece := await following) is not None:
                end, newest, batches = piece
                following = asyncio.create_task(asyncio.to_thread(_next, pieces))
                await self._send(job, batches)
                sent += sum(batch.record_count() for made in batches.values() for batch in made.batches)
                passed = max(1e-9, self._clock.monotonic() - began)
                report(end, f"{sent / passed:,.0f} events/s, at {when(newest)}")
                if self._clock.monotonic() >= self._touched + TOUCH_S:
                    self._check(job)
                    self._touch(job)
                if self._rate and sent / self._rate > passed:
                    await self._clock.sleep(sent / self._rate - passed)
        finally:
            following.cancel()
        self._check(job)
        job.state = "done"
        self._touch(job)
        return sent

    async def _send(self, job: Job, batches: Mapping[int, Made]) -> None:
        send = self._sender.send_batches
        sending = [
            send(self._topic, made.batches, partition=partition) for partition, made in batches.items()
        ]
        for (partition, made), written in zip(batches.items(), await asyncio.gather(*sending), strict=True):
            known, _ = job.places.get(partition, (0, 0))
            job.places[partition] = max(known, written.end), made.until

    def _check(self, job: Job) -> None:
        if self._jobs.read(job.id).run != self._run:
            raise UnavailableError("another run of this import has taken over")

    def stopped(self, job: Job) -> None:
        """Note that this run has ended and nothing of it is under way."""
        if job.state == "sending" and self._jobs.read(job.id).run == self._run:
            job.run = ""
            self._jobs.write(job)

    def _made(
        self, job: Job, runs: Runs, until: Mapping[int, int]
    ) -> Iterator[tuple[int, int, dict[int, Made]]]:
        """Yield number after the last event, its time, and the batches, for ``TOGETHER`` events at a time."""
        begin = min((until.get(p, 0) for p in range(job.partitions)), default=0)
        for first, bucket in runs.buckets():
            for at in range(0, len(bucket), TOGETHER):
                some = bucket.slice(at, TOGETHER)
                number = first + at
                if number + len(some) <= begin:
                    continue
                made = batches_of(self._settings, job.id, some, number, job.partitions, until)
                yield number + len(some), _newest(some), made


def _next(
    pieces: Iterator[tuple[int, int, dict[int, Made]]],
) -> tuple[int, int, dict[int, Made]] | None:
    return next(pieces, None)


def _newest(table: pa.Table) -> int:
    return int(table.column("ts")[len(table) - 1].as_py())


def when(ts_ms: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
