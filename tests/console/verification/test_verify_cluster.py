"""Events flow while a Redis Cluster loses masters and moves slots: `headrace verify` finds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
from installation import producer, publish, until, worker
from redis_cluster import RedisCluster

from headrace.console.verification.result import VerifyResult
from headrace.console.verification.run import verify
from headrace.serving.store.groups import GROUPS, SLOTS
from headrace.serving.store.opened import open_store
from headrace.streams.clock import now_ms
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]
USERS = [f"user-{n}" for n in range(200)]


@pytest.fixture
def in_cluster(topics_made: Settings, cluster: RedisCluster) -> Iterator[Settings]:
    given = topics_made.model_dump() | cluster.access
    yield Settings(**(given | {"durable_every_ms": 500, "redis_read_ms": 5000}))
    cluster.repair()


class Flow:
    """Clicks that are sent until the end of a block."""

    def __init__(self, settings: Settings, sender: BatchSender) -> None:
        self._topic, self._sender = Topics(settings).events, sender
        self.sent = 0

    async def send(self, users: Sequence[str] = USERS) -> None:
        """Send a click of each user."""
        clicks: list[tuple[str, Event]] = []
        for user in users:
            self.sent += 1
            click = Event(f"e{self.sent}", "click", user, f"item-{self.sent % 31}", now_ms())
            clicks.append((user, click))
        await publish(self._sender, self._topic, clicks)

    async def _go_on(self) -> None:
        while True:
            await self.send()
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Send clicks while the block runs."""
        sending = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def verified(settings: Settings) -> VerifyResult | None:
    """Return what `headrace verify` finds; None while Redis does not answer."""
    try:
        return await verify(settings)
    except UnavailableError:
        return None


async def in_redis(settings: Settings, users: Sequence[str]) -> list[bool]:
    """Return whether the rows of users are in Redis."""
    store = open_store(settings, 5.0, 5.0)
    try:
        return [row is not None for row in await store.get("u", [hash64(user) for user in users])]
    finally:
        await store.close()


async def nothing_is_wrong(settings: Settings, sent: int) -> VerifyResult:
    """Wait until the workers have repaired everything; fail when they do not."""
    result = await until(
        lambda: verified(settings), lambda r: r is not None and not r.differences, timeout=90
    )
    assert result.events == sent
    assert result.redis_rows > len(USERS)
    assert isinstance(result, VerifyResult)
    return result


async def test_masters_that_die_while_events_flow(
    in_cluster: Settings, cluster: RedisCluster, eventually: Eventually
) -> None:
    async with producer(in_cluster) as sender, worker(in_cluster, ["ingest", "aggregate"]):
        flow = Flow(in_cluster, sender)
        async with flow.going_on():
            await until(lambda: verified(in_cluster), lambda r: r is not None and r.redis_rows > 0, 60)
            for group in (0, GROUPS // 2):
                lost = cluster.master_of(SLOTS[group])
                heir = await asyncio.to_thread(cluster.cut_off, lost)
                # Nobody will hear of these users again: who loses their rows must write them again.
                once = [f"once-{group}-{n}" for n in range(100)]
                await flow.send(once)
                await until(lambda some=once: in_redis(in_cluster, some), all, 30)
                lost.kill()
                await eventually(lambda heir=heir: cluster.is_master(heir), 60)
                cluster.revive()
                await asyncio.to_thread(cluster.settle)
        await nothing_is_wrong(in_cluster, flow.sent)
    await nothing_is_wrong(in_cluster, flow.sent)


async def test_slots_that_move_while_events_flow(in_cluster: Settings, cluster: RedisCluster) -> None:
    async with producer(in_cluster) as sender, worker(in_cluster, ["ingest", "aggregate"]):
        flow = Flow(in_cluster, sender)
        async with flow.going_on():
            await until(lambda: verified(in_cluster), lambda r: r is not None and r.redis_rows > 0, 60)
            first, *_, last = cluster.masters()
            moved = [slot for slot in SLOTS if cluster.master_of(slot) is first]
            assert len(moved) > GROUPS / 4
            await asyncio.to_thread(cluster.move, moved, last)
            assert {cluster.master_of(slot) for slot in moved} == {last}
        await nothing_is_wrong(in_cluster, flow.sent)
        await asyncio.to_thread(cluster.move, moved, first)
        await nothing_is_wrong(in_cluster, flow.sent)
