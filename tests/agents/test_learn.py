"""The online learners on a broker: every example is learnt once, and only finite weights are published."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import leaf_world
import numpy as np
import pytest
from installation import producer, read_all, until
from join_world import encode
from shown_lists import shown
from strategies import T0

from headrace.agents import learn
from headrace.agents.learn import LearnStage
from headrace.agents.stage.group import AppMember
from headrace.agents.wiring import Wiring
from headrace.models.features.spec import SPEC
from headrace.models.learning import leaves, online, parts, ranker
from headrace.models.outcomes import SlotOutcome, examples_of
from headrace.serving.store.memory import MemoryStore
from headrace.streams.app import make_app
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Event, Example, Impression
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, OutRecord

pytestmark = pytest.mark.broker


@pytest.fixture
def quick(topics_made: Settings) -> Settings:
    return topics_made.model_copy(update={"publish_every_s": 0.2})


def some(n: int, seed: int) -> list[Impression]:
    """Return lists with one slot, with random features; the slot of every third one is clicked."""
    rng, out = np.random.default_rng(seed), list[Impression]()
    for i in range(n):
        one = shown(f"r{seed}-{i}", user=f"u{i % 8}", items=["a"], ts=now_ms())
        one.features = rng.standard_normal(len(SPEC)).astype("<f4").tobytes()
        out.append(one)
    return out


def learnt_at_once(found: list[Impression]) -> list[Example]:
    """Return what is learnt of lists and of their clicks."""
    slots = [e for one in found for e in examples_of(one, {})]
    clicks = [e for one in found[::3] for e in examples_of(one, {0: SlotOutcome(clicked=True)})]
    return [*slots, *clicks]


async def write(sender: BatchSender, settings: Settings, found: list[Impression]) -> None:
    """Write lists of users of all partitions, and the clicks on them to `events`, each twice."""
    await show(sender, settings, found)
    for _ in range(2):
        await click(sender, settings, found[::3])


async def show(sender: BatchSender, settings: Settings, found: list[Impression]) -> None:
    records: list[OutRecord] = [(one.user_id.encode(), encode(one), None, []) for one in found]
    await sender.send_keyed(Topics(settings).impressions, records)


async def click(sender: BatchSender, settings: Settings, found: list[Impression]) -> None:
    clicks = [
        Event(f"e{i.request_id}", "click", i.user_id, "a", i.ts, request_id=i.request_id) for i in found
    ]
    await sender.send_keyed(
        Topics(settings).events, [(c.user_id.encode(), encode(c), None, []) for c in clicks]
    )


@asynccontextmanager
async def learning(settings: Settings) -> AsyncIterator[Any]:
    sender = BatchSender(settings)
    app = make_app(settings, "learn", broker_commit_interval=0.1)
    learn.attach(app, Wiring(settings, sender, sender, MemoryStore()))
    ready, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run_apps([app], settings=settings, services=[sender], ready=ready, stop=stop))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    assert ready.is_set()
    try:
        yield app
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def published(settings: Settings) -> list[tuple[int, int]]:
    """Return how many examples and clicks each published model has learnt."""
    records = await read_all(settings, Topics(settings).models)
    return [online.learnt(record.value) for record in records if record.key == b"online"]


async def told_by(settings: Settings) -> set[str]:
    """Return the names of the learners that have told what they learnt."""
    return {
        parts.decode(record.value).learner
        for record in await read_all(settings, Topics(settings).model_updates)
    }


async def test_two_workers_learn_every_example_once_whoever_of_them_goes(quick: Settings) -> None:
    async def last() -> tuple[int, int]:
        return (await published(quick) or [(0, 0)])[-1]

    async with producer(quick) as sender:
        await write(sender, quick, some(120, 1))
        async with learning(quick) as second:
            async with learning(quick) as first:
                await until(last, lambda got: got == (120, 40), 40)
                await until(
                    lambda: asyncio.sleep(0, {len(a.consumer.assignment()) for a in (first, second)}),
                    lambda owned: owned == {2},
                    30,
                )
                await write(sender, quick, some(90, 2))
                await until(last, lambda got: got == (210, 70), 40)
                assert len(await told_by(quick)) == 1, "one of the two merges, the other one tells"
            await write(sender, quick, some(60, 3))
            await until(last, lambda got: got == (270, 90), 40)
        await write(sender, quick, some(30, 4))
        async with learning(quick):
            await until(last, lambda got: got == (300, 100), 40)
    seen = await published(quick)
    assert seen == sorted(seen), "no worker overwrote what another one had learnt"


async def read(stage: LearnStage) -> int:
    """Return how many records were read."""
    return sum(sum(at.values()) for at in stage.learning.read.values())


async def test_a_click_after_a_restart_is_learnt_from_the_list_shown_before_it(quick: Settings) -> None:
    async def last() -> tuple[int, int]:
        return (await published(quick) or [(0, 0)])[-1]

    lists = some(30, 1)
    async with producer(quick) as sender:
        await show(sender, quick, lists)
        await click(sender, quick, lists[:1])
        async with learning(quick):
            await until(last, lambda got: got == (30, 1), 40)
        await click(sender, quick, lists[:10])
        async with learning(quick):
            await until(last, lambda got: got == (30, 10), 40)
            await click(sender, quick, lists[:12])
            began = time.monotonic()
            await until(last, lambda got: got == (30, 12), 40)
            assert time.monotonic() - began < 10, "a click reaches serving within seconds"


async def tell(
    sender: BatchSender, settings: Settings, found: list[Impression], kind: str, **more: Any
) -> None:
    """Write an event on the slot of each list."""
    events = [
        Event(f"{kind}{i.request_id}", kind, i.user_id, "a", i.ts, request_id=i.request_id, **more)  # type: ignore[arg-type]
        for i in found
    ]
    await sender.send_keyed(
        Topics(settings).events, [(e.user_id.encode(), encode(e), None, []) for e in events]
    )


async def test_long_views_and_likes_are_learnt_when_they_come_also_after_a_restart(quick: Settings) -> None:
    settings = quick.model_copy(update={"train_min_clicks": 9})

    async def last() -> tuple[dict[str, int], dict[str, float]]:
        values = [r.value for r in await read_all(settings, Topics(settings).models) if r.key == b"online"]
        model = online.decode(values[-1]) if values else None
        if model is None:
            return {}, {}
        return {name: head.happened for name, head in model.heads.items()}, model.shares

    lists = some(30, 1)
    async with producer(settings) as sender:
        await show(sender, settings, lists)
        await click(sender, settings, lists[:12])
        await tell(sender, settings, lists[:5], "dwell", dwell_ms=29_000)
        await tell(sender, settings, lists[:3], "dwell", dwell_ms=30_000)
        async with learning(settings):
            await until(last, lambda got: got == ({"long_view": 3, "like": 0}, {"click": 1.0}), 40)
        await tell(sender, settings, lists[:10], "dwell", dwell_ms=50_000)
        await tell(sender, settings, lists[:4], "like")
        await tell(sender, settings, lists[:7], "save")
        async with learning(settings):
            shares = {"click": pytest.approx(0.375), "long_view": pytest.approx(0.625)}
            await until(last, lambda got: got == ({"long_view": 10, "like": 7}, shares), 40)


class First(AppMember):
    """The only member of a group."""

    def __init__(self) -> None:
        super().__init__(None)
        self.first = True

    def owns(self, topic: str, partition: int) -> bool:
        return self.first

    def writing(self) -> Any:
        return contextlib.nullcontext()


async def test_weights_that_are_not_finite_are_not_published_and_learning_goes_on(
    quick: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    sender, member = BatchSender(quick), First()
    await sender.start()
    stage = LearnStage(Wiring(quick, sender, sender, MemoryStore()), member)
    task = asyncio.create_task(stage.run())
    try:
        await write(sender, quick, some(30, 1))
        await until(lambda: read(stage), lambda n: n == 50)
        await stage.publish()
        broken = dataclasses.replace(stage.learning.model.weights(), bias=float("nan"))
        stage.learning.model.restore(broken, 30, 10)
        stage.learn(learnt_at_once(some(9, 2)))
        await stage.publish()
        assert "not finite" in caplog.text
        stage.learn(learnt_at_once(some(6, 3)))
        await stage.publish()
    finally:
        member.first = False
        await task
    records = await read_all(quick, Topics(quick).models)
    assert [online.learnt(r.value) for r in records] == [(30, 10), (30, 10), (36, 12)]
    assert all(online.sound(online.decode(r.value)) for r in records)
    await sender.stop()


async def test_a_worker_that_lost_the_first_partition_publishes_nothing(quick: Settings) -> None:
    sender, member = BatchSender(quick), First()
    await sender.start()
    stage = LearnStage(Wiring(quick, sender, sender, MemoryStore()), member)
    task = asyncio.create_task(stage.run())
    await write(sender, quick, some(30, 1))
    await until(lambda: read(stage), lambda n: n == 50)
    stage.revoked()
    await stage.publish()
    assert await published(quick) == []
    await task
    await sender.stop()


async def test_leaf_deltas_are_published_and_the_next_worker_goes_on_from_them(quick: Settings) -> None:
    value, version = ranker.encode(leaf_world.trained().text, T0, {})
    other, second = ranker.encode(leaf_world.trained(4).text, T0, {})

    async def told() -> list[tuple[str, int]]:
        records = await read_all(quick, Topics(quick).models)
        values = [r.value for r in records if r.key == b"leaves"]
        return [(leaves.decode(v).ranker, online.learnt(v)[0]) for v in values]

    async def last() -> tuple[str, int]:
        return (await told() or [("", 0)])[-1]

    async def publish(body: bytes) -> None:
        await sender.send_many(Topics(quick).models, [(b"ranker", body, None, ())], partition=0)

    async with producer(quick) as sender:
        await publish(value)
        async with learning(quick):
            await write(sender, quick, some(120, 1))
            await until(last, lambda got: got == (version, 120), 40)
        await write(sender, quick, some(60, 2))
        async with learning(quick):
            await until(last, lambda got: got == (version, 180), 40)
            await publish(other)

            async def more() -> tuple[str, int]:  # learnt before the new ranker is known, they would not tell
                await write(sender, quick, some(3, 3))
                return await last()

            await until(more, lambda got: got[0] == second, 40)
        assert (await last())[1] < 120, "a new ranker starts anew"
