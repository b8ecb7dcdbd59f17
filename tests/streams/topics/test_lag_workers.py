"""Verdicts on real workers: one that works, is frozen, stopped, or set back; and brokers that do not answer.

No test waits for a verdict: the time of a look is given to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from aiokafka import TopicPartition
from fresh_topics import make_topic, make_topics
from transport_probes import quick_app
from transport_worker import committed, committed_by, worker_process

from headrace.demo.embedded import EmbeddedBroker
from headrace.streams.clock import now_ms
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagReader, LagRow
from headrace.streams.topics.lag_verdict import Verdict
from headrace.streams.topics.lag_watch import LagWatch
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker
#: Between two looks of a test, ms: a few looks are a long time for an agent that commits often.
STEP_MS = 4000


class Looks:
    """Looks at one partition of one role, ``STEP_MS`` apart by the clock that they are given."""

    def __init__(self, reader: LagReader, settings: Settings, role: str, tp: TopicPartition) -> None:
        self._reader, self._role, self._tp = reader, role, tp
        self._seen, self._at_ms = LagWatch.of(settings), now_ms()

    async def look(self) -> LagRow:
        """Look once more."""
        self._at_ms += STEP_MS
        rows = self._seen.add(await self._reader.look(now_ms=self._at_ms, known=self._seen.known()))
        (row,) = [r for r in rows if (r.agent, r.topic, r.partition) == (self._role, *self._tp)]
        return row

    async def long(self, looks: int = 6) -> LagRow:
        """Look several times, return the last row."""
        for _ in range(looks):
            row = await self.look()
        return row

    async def held(self) -> bool:
        """Return whether the group is there and a member has the partition."""
        found = (await self._reader.look()).rows
        return any(r.held and (r.agent, r.topic, r.partition) == (self._role, *self._tp) for r in found)


async def test_a_worker_that_works_is_frozen_and_is_stopped(make_settings, tmp_path, eventually):
    # A session that outlasts the test: the broker takes the frozen worker for alive.
    settings = make_settings(durable_every_ms=200, session_timeout_s=30.0, data_dir=tmp_path / "data")
    await make_topics(settings)
    tp = TopicPartition(Topics(settings).events, 1)

    async def read(offset: int) -> bool:
        return (await committed(settings, "ingest", tp.topic)).get(tp.partition) == offset

    async with (
        sending(settings) as send,
        LagReader(settings) as reader,
        worker_process(settings, "ingest", tmp_path / "worker.log") as worker,
    ):
        await send(tp, 5)
        looks = Looks(reader, settings, "ingest", tp)
        await eventually(looks.held, 60)
        await eventually(lambda: read(5), 60)
        row = await looks.look()
        assert (row.verdict, row.records) == (Verdict.OK, 0)
        assert row.member is not None
        assert row.host == "127.0.0.1"

        worker.send_signal(signal.SIGSTOP)
        await send(tp, 7)
        assert (await looks.look()).verdict is Verdict.UNKNOWN
        row = await looks.long()
        assert (row.verdict, row.records, row.member is None) == (Verdict.STALL, 7, False)

        worker.send_signal(signal.SIGCONT)
        await eventually(lambda: read(12), 60)
        assert (await looks.look()).verdict is Verdict.OK

        worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait)
        row = await looks.long()
        assert (row.verdict, row.held) == (Verdict.OK, False), "nothing waits for it"
        await send(tp, 3)
        row = await looks.long()
        assert (row.verdict, row.records, row.member) == (Verdict.STOP, 3, None)
        assert row.seconds is not None


@contextlib.asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Callable[[TopicPartition, int], Awaitable[None]]]:
    """Yield a function that writes records, older than any that waits lawfully, into a partition."""
    sender = BatchSender(settings)
    await sender.start()

    async def send(tp: TopicPartition, count: int) -> None:
        old = now_ms() - 60_000
        await sender.send_many(tp.topic, [(b"k", b"no event", old, ())] * count, partition=tp.partition)

    try:
        yield send
    finally:
        await sender.stop()


async def test_a_group_that_is_set_back_has_rewound_until_the_window_is_over(
    topics_made, running, eventually
):
    settings = topics_made
    tp = TopicPartition(Topics(settings).requests, 2)
    count = 0

    def worker():
        app = quick_app(settings, "serve")

        @app.agent(batch_topic(app, tp.topic))
        async def collect(stream):
            nonlocal count
            async for batch in durable(stream):
                count += len(batch)

        return app

    async def read() -> bool:
        return (await committed(settings, "serve", tp.topic)).get(tp.partition) == 50

    async with sending(settings) as send, LagReader(settings) as reader:
        await send(tp, 50)
        async with running(worker()):
            await eventually(read)
        looks = Looks(reader, settings, "serve", tp)
        assert (await looks.look()).verdict is Verdict.OK
        await committed_by(settings, "serve", {tp: 20})
        row = await looks.look()
        assert (row.verdict, row.records) == (Verdict.REWIND, 30)
        async with running(worker()):
            await eventually(read)
        assert count == 80
        row = await looks.look()
        assert (row.verdict, row.records) == (Verdict.REWIND, 0), "it has read records again"
        assert (await looks.long(120_000 // STEP_MS)).verdict is Verdict.OK


async def test_topics_that_do_not_exist_are_said(settings):
    topics = Topics(settings)
    await make_topic(settings, topics.users)
    await committed_by(settings, "ingest", {TopicPartition(topics.users, 0): 0})
    async with LagReader(settings) as reader:
        found = await reader.look()
    assert {r.topic for r in found.rows} == {topics.users}
    assert found.missing == sorted(("ingest", t) for t in (topics.events, topics.impressions, topics.items))


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    """An embedded broker that a test may freeze."""
    with EmbeddedBroker() as server:
        yield server
        if server.pid is not None:
            os.kill(server.pid, signal.SIGCONT)


async def test_a_broker_that_does_not_answer_is_said_and_asked_again(own_broker: EmbeddedBroker):
    settings = Settings(brokers=own_broker.address)
    topics = Topics(settings)
    await make_topics(settings)
    await committed_by(settings, "ingest", {TopicPartition(topics.users, 0): 0})
    assert own_broker.pid is not None
    async with LagReader(settings) as reader:
        assert len((await reader.look()).rows) > 0
        os.kill(own_broker.pid, signal.SIGSTOP)
        reader._answer_s = 0.2
        with pytest.raises(UnavailableError, match=rf"{own_broker.address} did not answer within 0\.2 s"):
            await reader.look()
        with pytest.raises(UnavailableError):
            await reader.look()
        os.kill(own_broker.pid, signal.SIGCONT)
        reader._answer_s = 15.0
        assert len((await reader.look()).rows) > 0
