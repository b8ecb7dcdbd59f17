"""Token buckets: in memory against the textbook's, in Redis against those in memory."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from fractions import Fraction

import pytest
import redis.asyncio as redis
from hypothesis import given, settings
from hypothesis import strategies as st
from installation import until

from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.store.buckets import Buckets, take_arguments
from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.protocol import OnlineStore
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows

#: A token in 1000 s: how long a test takes does not matter.
SLOW = 0.001

REQUESTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=40)  # caller, tokens


class Textbook:
    """A bucket of tokens that is filled as time goes by, in exact numbers. Times are in microseconds."""

    def __init__(self, rate: float, burst: int) -> None:
        self.per_us, self.burst = Fraction(rate) / 10**6, burst
        self.tokens, self.at = Fraction(burst), 0

    def take(self, tokens: int, now: int) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + self.per_us * (now - self.at))
        self.at = now
        if self.tokens < min(tokens, self.burst):
            return False
        self.tokens -= min(tokens, self.burst)
        return True


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 3), st.integers(1, 6)), max_size=60),
    st.sampled_from([0.5, 1.0, 10.0, 1000.0]),
    st.integers(1, 8),
)
def test_it_lets_through_what_a_bucket_of_tokens_does(
    story: list[tuple[int, int, int]], rate: float, burst: int
) -> None:
    buckets, books, now = Buckets(), {caller: Textbook(rate, burst) for caller in (1, 2, 3)}, 10**15
    for pause, caller, tokens in story:
        now += pause
        (wait,) = buckets.take([caller], [tokens], rate, burst, now)
        assert (wait == 0) == books[caller].take(tokens, now)
        if wait:
            before, at = Buckets(), Buckets()
            before._full_at, at._full_at = dict(buckets._full_at), dict(buckets._full_at)
            assert at.take([caller], [tokens], rate, burst, now + 1000 * wait) == [0], "when it says"
            assert before.take([caller], [tokens], rate, burst, now + 1000 * (wait - 1)) != [0], "not before"


def test_full_buckets_need_no_memory() -> None:
    buckets = Buckets()
    for caller in range(1000):
        buckets.take([caller], [1], 10.0, 5, 10**12 + caller)
    buckets.take([0], [1], 10.0, 5, 10**12 + 10**6)
    assert len(buckets._full_at) == 1


async def test_a_burst_passes_then_callers_wait_each_for_itself(store: OnlineStore) -> None:
    waits = await store.take_tokens([7, 7, 8, 7, 7], [1, 1, 1, 1, 1], SLOW, 3)
    assert [wait == 0 for wait in waits] == [True, True, True, True, False]
    assert 900_000 < waits[-1] <= 1_000_000, "ms"
    assert await store.take_tokens([8, 8], [1, 1], SLOW, 3) == [0, 0]
    assert all(await store.take_tokens([7, 8], [1, 1], SLOW, 3))
    assert await store.take_tokens([], [], SLOW, 3) == []


async def test_a_request_for_more_than_a_bucket_passes_when_it_is_full(store: OnlineStore) -> None:
    assert await store.take_tokens([1], [9], SLOW, 3) == [0]
    assert (await store.take_tokens([1], [1], SLOW, 3))[0] > 900_000


async def test_what_is_refused_takes_nothing(store: OnlineStore) -> None:
    waits = await store.take_tokens([1, 1, 1, 1], [2, 2, 1, 1], SLOW, 3)
    assert [wait == 0 for wait in waits] == [True, False, True, False]


async def test_other_settings_hold_at_once(store: OnlineStore) -> None:
    await store.take_tokens([1], [100], SLOW, 100)
    (wait,) = await store.take_tokens([1], [1], 1000.0, 1)
    assert wait <= 1, "not a day"


async def test_buckets_fill_again(store: OnlineStore) -> None:
    assert any(await store.take_tokens([1] * 30, [1] * 30, 20.0, 2))
    await until(lambda: store.take_tokens([1], [2], 20.0, 2), lambda waits: waits == [0], 30)


@pytest.mark.broker
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_redis_decides_as_memory_does(redis_url: str, data: st.DataObject) -> None:
    batches = data.draw(st.lists(REQUESTS, min_size=1, max_size=3))
    burst = data.draw(st.integers(1, 12))

    async def both() -> None:
        name = f"t{secrets.token_hex(8)}-"  # the same example is run again
        in_redis = RedisStore(Settings(redis_url=redis_url, topic_prefix=name, redis_read_ms=5000))
        in_memory = MemoryStore()
        for batch in batches:
            callers, tokens = [caller for caller, _ in batch], [count for _, count in batch]
            told = [await s.take_tokens(callers, tokens, SLOW, burst) for s in (in_redis, in_memory)]
            assert [w == 0 for w in told[0]] == [w == 0 for w in told[1]]
            assert all(abs(a - b) < 60_000 for a, b in zip(*told, strict=True))
        await in_redis.close()

    asyncio.run(both())


@pytest.mark.broker
async def test_a_bucket_is_a_key_that_expires_when_it_is_full(
    redis_settings: Settings, in_redis: RedisStore
) -> None:
    await in_redis.take_tokens([255, 1], [3, 1], 0.1, 5)
    async with redis.from_url(redis_settings.redis_url) as client:
        prefix = redis_settings.topic_prefix
        assert 25_000 < await client.pttl(f"{prefix}l:{{callers}}:00000000000000ff") <= 30_000
        assert 5_000 < await client.pttl(f"{prefix}l:{{callers}}:0000000000000001") <= 10_000
        assert int(await client.get(f"{prefix}l:{{callers}}:00000000000000ff")) > time.time() * 1_000_000


async def test_a_redis_that_is_away_is_not_asked_again_and_again() -> None:
    store = RedisStore(Settings(redis_url="redis://127.0.0.1:1/0"))
    calls: list[str] = []
    store.measure = lambda call, seconds, failed: calls.append(call)
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await store.take_tokens([1], [1], 1.0, 1)
    assert calls == ["take_tokens"]
    await store.close()


async def test_where_scripts_are_forbidden_rows_can_still_be_read() -> None:
    with EmbeddedRedis() as server:
        async with redis.from_url(server.url) as admin:
            await admin.acl_setuser(
                "headrace", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-eval"]
            )
        url = server.url.replace("redis://", "redis://headrace:secret@")
        store = RedisStore(Settings(redis_url=url, redis_read_ms=5000), timeout_s=5.0)
        await store.put("u", PackedRows.of([1], [b"row"]))
        with pytest.raises(UnavailableError, match="eval"):
            await store.take_tokens([1], [1], 1.0, 1)
        assert await store.get("u", [1]) == [b"row"]
        await store.close()


def test_arguments_name_each_bucket_once() -> None:
    buckets, args = take_arguments([9, 4, 9], [1, 2, 7], 8.0, 5)
    assert buckets == [9, 4]
    assert args == [125_000, 625_000, 1, 1, 2, 2, 1, 5]
    assert math.isclose(args[1] / args[0], 5)
