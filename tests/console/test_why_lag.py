"""Each cause of lag is provoked, with real members of real groups, and named."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from command_line import run_headrace
from fresh_topics import make_topics
from lag_causes import Member, keys_of, watching, write
from transport_probes import quick_app
from transport_worker import committed

from headrace.agents.roles import measuring
from headrace.console.why_lag import explain
from headrace.demo.embedded import EmbeddedRedis, free_port
from headrace.streams.app_metrics import AppMetrics
from headrace.streams.errors import HeadraceError
from headrace.streams.metrics import Metrics
from headrace.streams.topics.lag_cause import Cause
from headrace.streams.topics.lag_verdict import Verdict
from headrace.streams.topics.names import Topics
from headrace.streams.topics.worker_metrics import Worker, checked_url, scrape
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker
ALL = (0, 1, 2, 3)


@pytest.fixture
def topic(topics_made) -> str:
    return Topics(topics_made).requests


@pytest.fixture
async def member(topics_made, topic, eventually):
    """A member that has all partitions and has committed their beginning."""
    async with Member(topics_made, "serve", topic) as found:
        await eventually(lambda: found.has(*ALL), 20)
        await found.commit(dict.fromkeys(ALL, 0))
        yield found


async def test_a_worker_that_has_the_partitions_and_commits_nothing(topics_made, topic, member, sender):
    for partition in ALL:
        await write(sender, topic, partition, keys_of(partition, 20))
    async with watching(topics_made) as why:
        await why.look(4)
        found = await why.finding()
        assert (found.cause, found.partitions) == (Cause.STUCK, ALL)
        assert "has committed nothing for 12 s and more" in found.evidence[0]
        first = f"offset 0, key {keys_of(0, 1)[0].decode()}, 2 bytes"
        assert found.evidence[-1].startswith(f"the first record that waits: {first}")
        await member.consumer.stop()
        await why.look(4)
        found = await why.finding()
    assert (found.cause, found.partitions) == (Cause.TOO_FEW, ALL)
    assert found.evidence[0] == "no worker has the partitions"


async def test_a_record_at_which_every_worker_dies(topics_made, topic, sender, running, eventually):
    settings = topics_made
    await write(sender, topic, 1, [b"poison"])
    async with watching(settings) as why:

        async def told_is(held: bool) -> bool:
            await why.look()
            return any(r.held is held for r in why.looks[-1].rows if (r.topic, r.partition) == (topic, 1))

        for _ in range(3):
            app, go = quick_app(settings, "serve"), asyncio.Event()

            @app.agent(batch_topic(app, topic))
            async def fails(stream: Any, go: asyncio.Event = go) -> None:
                async for batch in durable(stream):
                    await go.wait()
                    raise ValueError(f"{batch.records[0].key} cannot be read")

            async def die(app: Any = app, go: asyncio.Event = go) -> None:
                async with running(app):
                    await eventually(lambda: told_is(True), 30)
                    go.set()
                    await asyncio.Event().wait()

            with pytest.raises(HeadraceError, match="cannot be read"):
                await die()
            await eventually(lambda: told_is(False), 30)
        found = await why.finding()
    assert (found.cause, found.partitions) == (Cause.POISON, (1,))
    assert f"{topic}-1 stands at its beginning" in found.evidence[0]
    assert found.evidence[1] == "it lost its worker 3 times meanwhile"
    assert "offset 0, key poison" in found.evidence[2]


async def test_a_record_that_stops_one_partition_of_a_worker(topics_made, topic, member, sender):
    for partition in ALL:
        await write(sender, topic, partition, keys_of(partition, 100))
    async with watching(topics_made) as why:
        for n in range(5):
            await member.commit({1: 10 * n, 2: 10 * n, 3: 10 * n})
            await why.look()
        found = (await why.explained()).findings
    assert [(f.cause, f.partitions) for f in found] == [(Cause.POISON, (0,)), (Cause.BACKLOG, (1, 2, 3))]
    assert found[0].evidence[1] == "the same worker commits in partitions 1, 2, 3"


async def test_a_rebalance_that_does_not_end(topics_made, topic, member, sender, eventually):
    await write(sender, topic, 0, keys_of(0, 20))
    async with watching(topics_made) as why:
        await why.look()
        member.stays.clear()
        async with Member(topics_made, "serve", topic) as second:

            async def untold() -> bool:
                await why.look()
                return all(row.held is None for row in why.looks[-1].rows)

            await eventually(untold, 20)
            await why.look(2)
            found = await why.finding()
            assert (found.cause, found.partitions) == (Cause.REBALANCE, (0,))
            member.stays.set()
            await eventually(lambda: second.consumer.assignment() and member.consumer.assignment(), 30)


@pytest.mark.parametrize("one_key", [True, False])
async def test_one_partition_gets_far_more_than_the_others(topics_made, topic, member, sender, one_key):
    hot = keys_of(2, 1) * 900 if one_key else keys_of(2, 900)
    for partition in ALL:
        await write(sender, topic, partition, hot if partition == 2 else keys_of(partition, 60))
    async with watching(topics_made) as why:
        for n in range(5):
            await member.commit(dict.fromkeys(ALL, 10 * n))
            await write(sender, topic, 2, hot[:100])
            await why.look()
        found = await why.finding()
    assert (found.cause, found.partitions) == (Cause.HOT_KEY if one_key else Cause.HOT_PARTITION, (2,))
    assert found.evidence[0] == "1,360 records wait in partition 2, 20 in each other one"
    if one_key:
        assert found.evidence[1] == f"of the first 500, 500 have the key {hot[0].decode()}"


async def test_too_few_workers_and_a_backlog(topics_made, topic, member, sender):
    for partition in ALL:
        await write(sender, topic, partition, keys_of(partition, 50))
    async with watching(topics_made) as why:
        for n in range(6):
            for partition in ALL:
                await write(sender, topic, partition, keys_of(partition, 20))
            await member.commit(dict.fromkeys(ALL, 4 * n))
            await why.look()
        growing = await why.explained()
    async with watching(topics_made) as why:
        for n in range(6):
            await member.commit(dict.fromkeys(ALL, 20 + 20 * n))
            await why.look()
        shrinking = await why.explained()
    (found,) = growing.findings
    assert (found.cause, found.partitions) == (Cause.TOO_FEW, ALL)
    assert found.evidence[:2] == (
        "20.0 records come each second, 4.0 are committed", "1 worker for 4 partitions",
    )  # fmt: skip
    assert growing.drain_s is None
    (found,) = shrinking.findings
    assert (found.cause, found.partitions) == (Cause.BACKLOG, ALL)
    assert shrinking.drain_s == pytest.approx((170 - 120) / 5.0), "20 records in 4 s"


@pytest.mark.parametrize("role", ["log", "ingest"])
async def test_what_an_agent_needs_is_away(make_settings, sender, role, eventually):
    store, redis = free_port(), EmbeddedRedis().start()
    redis.stop()
    away = f"s3://bucket/log?endpoint_override=http://127.0.0.1:{store}"
    settings = make_settings(redis_url=redis.url, data_url=away)
    await make_topics(settings)
    topic = Topics(settings).examples if role == "log" else Topics(settings).users
    async with Member(settings, role, topic) as found, watching(settings, role) as why:
        await eventually(lambda: found.has(*ALL), 30)
        await found.commit(dict.fromkeys(ALL, 0))
        await write(sender, topic, 1, keys_of(1, 20))
        await why.look(10)
        seen = (await why.explained()).findings
    dead = seen[0]
    assert (dead.cause, dead.partitions) == (Cause.DEPENDENCY, (1,))
    if role == "log":  # it waits for the store, so nothing else is to blame
        assert dead.evidence[0].startswith("the object store, from this machine: nobody listens at 127.0.0.1")
        assert len(seen) == 1
    else:  # without Redis it would go on
        assert dead.evidence[0].startswith("Redis, from this machine: it does not answer")
        assert [f.cause for f in seen] == [Cause.DEPENDENCY, Cause.STUCK]


async def test_a_stage_that_waits_all_the_time(topics_made, topic, sender, running, eventually):
    settings = topics_made.model_copy(update={"metrics_port": free_port()})
    app, metrics, done = quick_app(settings, "serve"), Metrics(), []

    @app.agent(batch_topic(app, topic, queued_batches=1, max_records=1))
    async def slow(stream: Any) -> None:
        async for _ in durable(stream):
            await asyncio.sleep(0.5)
            done.append(1)

    for partition in ALL:
        await write(sender, topic, partition, keys_of(partition, 500))
    url = checked_url(f"127.0.0.1:{settings.metrics_port}")
    services = [*measuring(settings, metrics, ["serve"]), AppMetrics(app, "serve", metrics)]
    async with running(app, services=services), watching(settings) as why:
        await eventually(lambda: len(done) > 1, 30)
        first = (await scrape([url], time.time()))[url]
        assert first is not None
        assert first.roles == ("serve",)
        await eventually(lambda: len(done) > 8, 60)
        last = (await scrape([url], time.time()))[url]
        for n in range(5):
            for partition in ALL:
                await write(sender, topic, partition, keys_of(partition, 100))
            began = why.looks[-1].rows if n else []

            async def commits(began: Any = began) -> bool:
                now = await committed(settings, "serve", topic)
                return not began or any(now[r.partition] > r.committed for r in began if r.topic == topic)

            await eventually(commits, 30)
            await why.look()
        found = await why.finding([Worker(url, first, last)])
    assert found.cause is Cause.SLOW_STAGE, found
    assert "recommend works on batches" in found.evidence[1]


async def test_the_command_explains_a_lag_and_an_idle_group(topics_made, topic, member, sender, capsys):
    assert await explain(topics_made, "serve", False, [], 30.0) == 0
    assert "nothing waits for longer than it lawfully does" in capsys.readouterr().out
    await write(sender, topic, 3, keys_of(3, 7))
    silent = checked_url("127.0.0.1:1")
    assert await explain(topics_made, "serve", True, [silent], 30.0) == 1
    told = json.loads(capsys.readouterr().out)
    (one,) = told["agents"]
    assert (told["verdict"], one["verdict"], one["records"], one["drain_s"]) == (
        Verdict.STALL,
        Verdict.STALL,
        7,
        None,
    )
    assert [(c["cause"], c["partitions"]) for c in one["causes"]] == [("stuck worker", [3])]
    assert told["workers"] == [{"url": silent, "answers": False}]
    assert await explain(topics_made, "nobody", False, [], 0.0) == 1
    assert "there is no group nobody" in capsys.readouterr().out


def test_no_broker_is_the_cause(monkeypatch, capsys) -> None:
    assert run_headrace(monkeypatch, "why-lag", "--json", "--brokers", "127.0.0.1:1") == 2
    out = capsys.readouterr()
    (found,) = json.loads(out.out)["causes"]
    assert found["cause"] == "broker"
    assert "no Kafka broker answers at 127.0.0.1:1" in out.err
