"""The end of an app: a crash, no broker, its lease, its connections."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest
from mode import Service
from transport_probes import Commits, collecting, quick_app
from transport_worker import fill

from headrace.streams.app import make_app
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker


async def test_a_crashing_service_stops_everything(topics_made):
    ready = asyncio.Event()

    class Broken(Service):
        @Service.task
        async def _work(self):
            await ready.wait()
            raise ZeroDivisionError("side task")

    topics = Topics(topics_made)
    app = make_app(topics_made, "side")

    @app.agent(batch_topic(app, topics.events))
    async def idle(stream):
        async for _ in durable(stream):
            pass

    started = time.monotonic()
    with pytest.raises(HeadraceError, match="side task"):
        await run_apps([app], settings=topics_made, services=[Broken()], ready=ready)
    assert time.monotonic() - started < 10


async def test_no_broker_is_said_in_one_error():
    settings = Settings(brokers="127.0.0.1:1")
    app = make_app(settings, "nobody")

    @app.agent(batch_topic(app, "events"))
    async def idle(stream):
        async for _ in durable(stream):
            pass

    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await run_apps([app], settings=settings)


async def test_the_lease_is_held_while_running_and_not_after(topics_made, running, eventually):
    every_s = 0.3
    app, got, ages = make_app(topics_made, "lease", broker_heartbeat_interval=every_s), [], [0.0]
    collecting(app, Topics(topics_made).events, got)
    async with running(app):
        consumer = app.consumer
        await eventually(consumer.lease_valid)

        def renewed_three_times() -> bool:
            ages.append(consumer.lease_age())
            return sum(later < sooner for sooner, later in pairwise(ages)) == 3

        await eventually(renewed_three_times)
        assert consumer.lease_valid()
        assert 0 < max(ages) < 4 * every_s, "a heartbeat every 0.3 s"
    assert not consumer.lease_valid()
    assert consumer.lease_age() == float("inf")


async def test_connections_are_closed_by_their_own_thread(topics_made, sender, running, eventually):
    """Also when a rebalance comes while the app stops: Faust would close them from the main thread then."""
    topics, seen, closed_by = Topics(topics_made), [], []
    await fill(sender, topics.events, 10, partitions=1)
    app = quick_app(topics_made, "stopping")
    collecting(app, topics.events, seen)
    async with running(app):
        await eventually(lambda: len(seen) == 10)
        client = app.consumer._thread._consumer._client
        close = client.close

        async def noted():
            closed_by.append(threading.current_thread())
            await close()

        client.close = noted
        app._on_rebalance_when_stopped()
        await eventually(Commits(app).two_more())
    assert closed_by
    assert threading.main_thread() not in closed_by
