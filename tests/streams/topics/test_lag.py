"""Lag, read from the broker only."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from transport_probes import quick_app
from transport_worker import committed

from headrace.agents.roles import ROLES, run_worker
from headrace.console.lag import look
from headrace.streams.app import make_app
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.flow import group_reads
from headrace.streams.topics.lag import LagReader, every_partition, lag, rows
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable, manual

P0, P1 = TopicPartition("events", 0), TopicPartition("events", 1)


def test_rows_are_put_together():
    got = rows(
        {"p-headrace-ingest": {P0: 40, P1: -1}, "p-headrace-log": {P0: 100, TopicPartition("gone", 0): 5}},
        {P0: 10, P1: 7},
        {P0: 100, P1: 17},
        {(P0, 40): 5_000, (P1, 7): 9_500},
        10_000,
        prefix="p-headrace-",
    )
    assert [(r.agent, r.partition, r.committed, r.end, r.records, r.seconds) for r in got] == [
        ("ingest", 0, 40, 100, 60, 5.0),
        ("ingest", 1, -1, 17, 10, 0.5),
        ("log", 0, 100, 100, 0, 0.0),
    ]
    assert {r.group for r in got} == {"p-headrace-ingest", "p-headrace-log"}


def test_records_expired_before_they_were_read_do_not_count():
    (row,) = rows({"g": {P0: 3}}, {P0: 10}, {P0: 12}, {(P0, 10): 1_000}, 2_000, prefix="")
    assert (row.records, row.seconds) == (2, 1.0)


def test_unknown_age_is_none_and_clocks_may_disagree():
    (row,) = rows({"g": {P0: 3}}, {P0: 0}, {P0: 12}, {}, 2_000, prefix="")
    assert row.seconds is None
    (row,) = rows({"g": {P0: 3}}, {P0: 0}, {P0: 12}, {(P0, 3): 9_000}, 2_000, prefix="")
    assert row.seconds == 0.0


def test_partitions_never_committed_count_as_unread():
    made = {"a": [0, 1], "b": [0], "other": [0]}
    got = every_partition({TopicPartition("a", 1): 7}, ["b", "missing"], made)
    assert got == {TopicPartition("a", 0): -1, TopicPartition("a", 1): 7, TopicPartition("b", 0): -1}
    assert every_partition({}, [], made) == {}


@pytest.mark.broker
async def test_lag_of_running_and_stopped_workers(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    now = int(time.time() * 1000)
    done, held = quick_app(settings, "ingest"), quick_app(settings, "learn")
    seen, acks = [], []

    @done.agent(batch_topic(done, topics.events))
    async def finish(stream):
        async for batch in durable(stream):
            seen.extend(batch)

    @held.agent(batch_topic(held, topics.events))
    async def hold(stream):
        async for batch, ack in manual(stream):
            acks.append((batch.first_offset, ack))

    for p in range(4):
        await sender.send_many(topics.events, [(b"k", b"a", now - 60_000, ())] * 100, partition=p)
    async with running(done, held):
        await eventually(lambda: len(seen) == 400 and len(acks) >= 4)
        for first, ack in acks:
            if first == 0:
                ack()
        await eventually(lambda: committed_up_to(settings, "learn", topics.events, 100))
        for p in range(2):
            await sender.send_many(topics.events, [(b"k", b"b", now - 30_000, ())] * 50, partition=p)
        await eventually(lambda: len(seen) == 500)

    found = {(r.agent, r.partition): r for r in await lag(settings) if r.topic == topics.events}
    assert set(found) == {(agent, p) for agent in ("ingest", "learn") for p in range(4)}
    for p in range(4):
        assert (found["ingest", p].records, found["ingest", p].seconds) == (0, 0.0)
        row = found["learn", p]
        assert row.group == settings.name("headrace-learn")
        assert (row.committed, row.end, row.records) == ((100, 150, 50) if p < 2 else (100, 100, 0))
        assert row.seconds == (pytest.approx(30, abs=15) if p < 2 else 0.0)


async def committed_up_to(settings, role, topic, offset):
    """Return whether a group has committed ``offset`` in every partition."""
    return await committed(settings, role, topic) == dict.fromkeys(range(settings.partitions), offset)


async def health(settings, group, max_seconds):
    """Return the exit code of a healthcheck."""
    return await look(
        settings, watch=False, as_json=True, group=group, partitions=False, max_seconds=max_seconds
    )


@pytest.mark.broker
async def test_idle_workers_are_healthy_and_read_what_we_say(topics_made, monkeypatch):
    settings, topics, apps = topics_made, Topics(topics_made), {}

    def remembered(settings, role):
        apps[role] = make_app(settings, role)
        return apps[role]

    monkeypatch.setattr("headrace.agents.roles.make_app", remembered)
    roles = [role for role, agents in ROLES.items() if agents]
    assert await health(settings, None, 60) == 1  # nothing ever ran
    ready, stop = asyncio.Event(), asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, roles, ready=ready, stop=stop))
    try:
        await asyncio.wait_for(ready.wait(), 30)
        for role in roles:
            assert await health(settings, settings.name(f"headrace-{role}"), 60) == 0, role
            assert await health(settings, role, 60) == 0, role
        assert await health(settings, "trainer", 60) == 1  # it has no group
        found = await lag(settings)
    finally:
        stop.set()
        await asyncio.wait_for(worker, 30)
    assert {r.committed for r in found} == {-1}
    assert {r.records for r in found} == {0}
    for role in roles:
        mine = {(r.topic, r.partition) for r in found if r.agent == role}
        assert mine == {(topic, p) for topic in apps[role].batch_topics for p in range(settings.partitions)}
        assert apps[role].batch_topics == {getattr(topics, name) for name in group_reads()[role]}


@pytest.mark.broker
async def test_a_group_that_never_committed_is_as_late_as_its_oldest_unread_record(
    topics_made, sender, running, eventually
):
    settings, topics = topics_made, Topics(topics_made)
    app, seen = make_app(settings, "serve"), []

    @app.agent(batch_topic(app, topics.requests))
    async def hold(stream):
        async for batch, _ack in manual(stream):
            seen.extend(batch)

    sent = int(time.time() * 1000) - 100_000
    await sender.send_many(topics.requests, [(b"k", b"a", sent, ())] * 3, partition=1)
    async with running(app):
        await eventually(lambda: len(seen) == 3)
        assert [(r.topic, r.partition, r.committed, r.records) for r in await lag(settings)] == [
            *((topics.requests, p, -1, 3 if p == 1 else 0) for p in range(4)),
            *((topics.bulk_requests, p, -1, 0) for p in range(4)),
        ]
        assert await health(settings, "serve", 60) == 1
        assert await health(settings, "serve", 900) == 0
        async with LagReader(settings, peek_s=0.0) as reader:
            late = [r for r in (await reader.look()).rows if r.records]
        assert [(r.records, r.seconds) for r in late] == [(3, None)], "there was no time to read it"


@pytest.mark.broker
async def test_a_look_is_as_old_as_its_first_question(topics_made, monkeypatch):
    """Its answers are of the time between the first question and the last answer."""
    done = []
    times = iter((1000, 5000))

    def now_ms():
        done.append("time")
        return next(times)

    def noted(client, name):
        asked = getattr(client, name)

        async def ask(self, *args, **kwargs):
            done.append("asked")
            return await asked(self, *args, **kwargs)

        monkeypatch.setattr(client, name, ask)

    noted(AIOKafkaAdminClient, "list_consumer_groups")
    noted(AIOKafkaAdminClient, "describe_topics")
    monkeypatch.setattr("headrace.streams.topics.lag.clock", SimpleNamespace(now_ms=now_ms))
    async with LagReader(topics_made) as reader:
        found = await reader.look()
    assert done == ["time", "asked", "asked", "time"]
    assert (found.asked_s, found.at_s) == (1.0, 5.0)


@pytest.mark.broker
async def test_no_groups_no_rows(settings):
    assert await lag(settings) == []


async def test_no_broker():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await lag(Settings(brokers="127.0.0.1:1"))
