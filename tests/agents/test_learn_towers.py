"""The learner of the towers on a broker: it publishes, and goes on where the last publication ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError
from installation import read_all, until

from headrace.agents.learn_towers import TowersStage
from headrace.agents.stage.group import AppMember
from headrace.agents.wiring import Wiring
from headrace.models.embeddings.pace import Pace
from headrace.models.embeddings.pieces import Assembly, Whole
from headrace.models.state.users import ROW
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import now_ms
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Event, Item
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import RowTable
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, Written

pytestmark = pytest.mark.broker
T0 = now_ms() - 60_000  # the broker deletes records that are too old
ITEMS = [Item(f"i{n}", T0, f"Title {n}", f"c{n % 4}") for n in range(40)]


class First(AppMember):
    """The only member of a group."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.first = True

    def owns(self, topic: str, partition: int) -> bool:
        return self.first

    def writing(self) -> Any:
        return contextlib.nullcontext()


class Killed(BatchSender):
    """A sender that does not live to write the head of the towers."""

    async def send_many(self, topic: str, records: Any, *, partition: int) -> Written:
        if records[0][0] == b"towers":
            raise KafkaConnectionError
        return await super().send_many(topic, records, partition=partition)


def clicks(n: int, seed: int) -> list[Event]:
    """Every user clicks items of one category, none twice."""
    out, rng = list[Event](), np.random.default_rng(seed)
    for user in range(n // 5):
        for item in rng.choice(10, 5, replace=False).tolist():
            item_id, number = f"i{4 * item + user % 4}", len(out)
            event = Event(f"{seed}-{number}", "click", f"u{seed}-{user}", item_id, T0 + number)
            event.context = Context(country="BR", device="phone")
            out.append(event)
    return out


async def write(sender: BatchSender, topic: str, found: list[Any], key: str) -> None:
    records = [(getattr(m, key).encode(), msgspec.json.encode(m), T0, ()) for m in found]
    await sender.send_keyed(topic, records)


class World:
    def __init__(self, settings: Settings, sender: BatchSender) -> None:
        self.settings, self.sender, self.store = settings, sender, MemoryStore()
        self.topics = Topics(settings)

    def stage(self, pace: Pace | None = None) -> tuple[TowersStage, First]:
        member = First()
        wiring = Wiring(self.settings, self.sender, self.sender, self.store)
        return TowersStage(wiring, member, pace), member

    @asynccontextmanager
    async def learning(self, stage: TowersStage, member: First) -> AsyncIterator[None]:
        task = asyncio.create_task(stage.lead())
        try:
            yield
        finally:
            member.first = False
            await task

    async def read_to(self, stage: TowersStage, n: int) -> None:
        await until(lambda: asyncio.sleep(0, sum(stage.read.values())), lambda read: read == n, 40)

    async def wholes(self) -> list[Whole]:
        assembly = Assembly()
        found = [assembly.take(r.key, r.value) for r in await read_all(self.settings, self.topics.models)]
        return [whole for whole in found if whole is not None]


@pytest.fixture
async def world(topics_made: Settings) -> AsyncIterator[World]:
    sender = BatchSender(topics_made)
    await sender.start()
    out = World(topics_made, sender)
    await write(sender, out.topics.items, ITEMS, "item_id")
    yield out
    await sender.stop()


async def test_it_publishes_and_another_worker_goes_on(world: World) -> None:
    await write(world.sender, world.topics.events, clicks(600, 1), "user_id")
    first, member = world.stage()
    async with world.learning(first, member):
        await world.read_to(first, 600)
        await first.publish()
        await first.publish()
        assert len(first.items.content) == len(ITEMS)
    (whole,) = await world.wholes()
    assert whole.head.metrics["clicks"] == 600
    assert sum(whole.head.read.values()) == 600

    await write(world.sender, world.topics.events, clicks(300, 2), "user_id")
    second, member = world.stage()
    async with world.learning(second, member):
        await world.read_to(second, 900)
        assert second.stream.learner.learnt + second.stream.learner.waiting == 900
        assert len(second.stream.recent) == 180, "users of the clicks learnt before, too"
        await second.publish()
    heads = [whole.head for whole in await world.wholes()]
    assert [head.metrics["clicks"] for head in heads] == [600, 900]
    assert [head.slot for head in heads] == [0, 1]
    assert len({head.version for head in heads}) == 2


async def test_what_was_learnt_has_the_country_the_device_and_the_profile(world: World) -> None:
    table = RowTable(ROW)
    row = table.take([hash64("u1-0")])
    table.data["preferred"][row, 0] = hash64("c3")
    await world.store.put("u", table.pack(row))
    await write(world.sender, world.topics.events, clicks(600, 1), "user_id")
    stage, member = world.stage()
    given: list[Any] = []
    learn = stage.stream.learn
    async with world.learning(stage, member):
        await world.read_to(stage, 0)
        learn = stage.stream.learn
        stage.stream.learn = lambda c, recent: (given.append(c), learn(c, recent))[1]  # type: ignore[method-assign]
        await world.read_to(stage, 600)
    users = np.concatenate([c.user for c in given])
    preferred = np.concatenate([c.preferred for c in given])
    assert set(np.concatenate([c.country for c in given]).tolist()) == {hash64("BR")}
    assert set(np.concatenate([c.device for c in given]).tolist()) == {hash64("phone")}
    assert set(preferred[users == hash64("u1-0")][:, 0].tolist()) == {hash64("c3")}
    assert not preferred[users != hash64("u1-0")].any()


async def test_pieces_without_a_head_leave_the_old_version_in_use(world: World) -> None:
    await write(world.sender, world.topics.events, clicks(600, 1), "user_id")
    stage, member = world.stage()
    async with world.learning(stage, member):
        await world.read_to(stage, 600)
        await stage.publish()
        await write(world.sender, world.topics.events, clicks(100, 2), "user_id")
        await world.read_to(stage, 700)
        stage.wiring.sender = Killed(world.settings)
        await stage.wiring.sender.start()
        with pytest.raises(KafkaConnectionError):
            await stage.publish()
        await stage.wiring.sender.stop()
    records = await read_all(world.settings, world.topics.models)
    assert any(r.key.startswith(b"towers/1/") for r in records), "the second version was begun"
    assert len(await world.wholes()) == 1
    other, member = world.stage()
    await other.restore()
    assert (other.stream.learner.learnt, sum(other.read.values())) == (600, 600)


async def test_towers_that_are_not_finite_are_not_published(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await write(world.sender, world.topics.events, clicks(600, 1), "user_id")
    stage, member = world.stage()
    async with world.learning(stage, member):
        await world.read_to(stage, 600)
        await stage.publish()
        await write(world.sender, world.topics.events, clicks(100, 2), "user_id")
        await world.read_to(stage, 700)
        stage.stream.learner.towers.weights[0] = np.nan
        await stage.publish()
        assert "not finite" in caplog.text
        assert stage.stream.learner.learnt == 600
        await write(world.sender, world.topics.events, clicks(50, 3), "user_id")
        await world.read_to(stage, 750)
        await stage.publish()
    assert [whole.head.metrics["clicks"] for whole in await world.wholes()] == [600, 650]


async def test_clicks_that_come_too_fast_are_sampled_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await write(world.sender, world.topics.events, clicks(600, 1), "user_id")
    stage, member = world.stage(Pace(behind=100))
    async with world.learning(stage, member):
        await world.read_to(stage, 600)
        await stage.publish()
    (whole,) = await world.wholes()
    assert 100 <= whole.head.metrics["clicks"] < 600
    assert whole.head.metrics["clicks"] + whole.head.metrics["skipped"] == 600
    assert "not learnt" in caplog.text
    assert len(stage.stream.recent) == 120


async def test_a_worker_that_lost_the_first_partition_publishes_nothing(world: World) -> None:
    await write(world.sender, world.topics.events, clicks(300, 1), "user_id")
    stage, member = world.stage()
    async with world.learning(stage, member):
        await world.read_to(stage, 300)
        stage.revoked()
        await stage.publish()
    assert await world.wholes() == []
