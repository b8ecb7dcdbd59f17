"""A worker joins its group when it is warm: until then the other members keep their partitions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from transport_probes import collecting, quick_app

from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport import warm
from headrace.streams.transport.warm import warm_up

pytestmark = pytest.mark.broker


async def test_a_cold_worker_takes_nothing_from_a_warm_one(
    topics_made: Settings, sender: BatchSender, eventually: Any
) -> None:
    topic, stop, ready_to_answer = Topics(topics_made).events, asyncio.Event(), asyncio.Event()
    by_first, by_second = list[tuple[int, int]](), list[tuple[int, int]]()
    first, second = quick_app(topics_made, "r"), quick_app(topics_made, "r")
    collecting(first, topic, by_first)
    collecting(second, topic, by_second)
    warm_up(second).append(ready_to_answer.wait)
    ready = asyncio.Event()
    running = asyncio.create_task(run_apps([first], settings=topics_made, ready=ready, stop=stop))
    await ready.wait()
    every = {(topic, partition) for partition in range(topics_made.partitions)}
    await eventually(lambda: set(map(tuple, first.consumer.assignment())) == every)
    later = asyncio.create_task(run_apps([second], settings=topics_made, stop=stop))
    for n in range(40):
        await sender.send_keyed(topic, [(b"%d" % n, b"v", None, ())])
    await eventually(lambda: len(by_first) == 40)
    assert not by_second
    assert set(map(tuple, first.consumer.assignment())) == every
    ready_to_answer.set()
    await eventually(lambda: len(first.consumer.assignment()) < len(every), 20)
    stop.set()
    await asyncio.gather(running, later)


async def test_a_worker_that_never_gets_warm_joins_all_the_same(
    topics_made: Settings, sender: BatchSender, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "WARM_UP_S", 0.1)
    topic, stop, got = Topics(topics_made).events, asyncio.Event(), list[tuple[int, int]]()
    app = quick_app(topics_made, "r")
    collecting(app, topic, got)
    warm_up(app).append(asyncio.Event().wait)
    running = asyncio.create_task(run_apps([app], settings=topics_made, stop=stop))
    await sender.send_keyed(topic, [(b"k", b"v", None, ())])
    await eventually(lambda: len(got) == 1, 20)
    stop.set()
    await running


async def test_a_worker_stops_while_it_warms_up(topics_made: Settings) -> None:
    stop, asked = asyncio.Event(), asyncio.Event()
    app = quick_app(topics_made, "r")
    collecting(app, Topics(topics_made).events, [])

    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    warm_up(app).append(never)
    running = asyncio.create_task(run_apps([app], settings=topics_made, stop=stop))
    await asked.wait()
    stop.set()
    await asyncio.wait_for(running, 5)
