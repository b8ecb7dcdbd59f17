"""CPU time of the client per row written to Redis, in several ways; and speed of refilling an empty store.

    python bench/bench_store.py            # prints one JSON object

``put_bytes`` and ``put_packed`` are ours; ``lua`` is a script call for 500 keys through redis-py,
``pipeline`` its pipeline of SETs. Microseconds of CPU (user and system) per row, medians.
``put_latency_ms``: time of a write of 50 rows. ``loop_held_ms``: longest CPU time without a turn of the event
loop during a write of 4000 rows. ``refill_rows_per_s`` reads the changelog from memory: it is the limit of
``OnlineCopy`` and Redis, without throttling, while a stage writes 50 rows at a time in
``put_beside_refill_ms``.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np
import redis.asyncio as redis
import uvloop

from headrace.agents.stage.online_copy import OnlineCopy
from headrace.agents.stage.refill import Apply
from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.store.redis import RedisStore
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows

ROWS, ROUNDS, TTL = 4000, 9, 30 * 86_400
REFILL_ROWS = 50_000
_LUA = """
for i, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[i + 1], 'EX', ARGV[1])
end
return #KEYS
"""


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes


async def held(work: Awaitable[None]) -> float:
    """Return the longest gap, seconds, between two turns of the event loop while ``work`` is done."""
    task, longest, last = asyncio.ensure_future(work), 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    await task
    return longest


def ms(values: list[float]) -> dict[str, float]:
    values = sorted(values)
    return {
        "p50": round(1000 * statistics.median(values), 2),
        "p99": round(1000 * values[int(len(values) * 0.99)], 2),
    }


async def writes(url: str, size: int) -> dict[str, Any]:
    store, client = RedisStore(Settings(redis_url=url), timeout_s=5.0), redis.from_url(url)
    script = client.register_script(_LUA)
    rows = np.frombuffer(np.random.default_rng(1).bytes(size * ROWS), f"V{size}")
    keys = np.arange(ROWS, dtype=np.uint64)
    numbers, packed = keys.tolist(), [row.tobytes() for row in rows]
    joined = PackedRows(keys, rows.tobytes(), np.arange(ROWS + 1, dtype=np.int64) * size)
    names = [f"u:{key:016x}" for key in numbers]

    async def lua() -> None:
        for i in range(0, ROWS, 500):
            await script(keys=names[i : i + 500], args=[TTL, *packed[i : i + 500]])

    async def pipeline() -> None:
        for i in range(0, ROWS, 500):
            pipe = client.pipeline(transaction=False)
            for name, row in zip(names[i : i + 500], packed[i : i + 500], strict=True):
                pipe.set(name, row, ex=TTL)
            await pipe.execute()

    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "put_bytes": lambda: store.put("u", PackedRows.of(numbers, packed)),
        "put_packed": lambda: store.put("u", joined),
        "lua": lua,
        "pipeline": pipeline,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            began = time.process_time()
            await way()
            if turn:  # the first one warms up
                spent[name].append((time.process_time() - began) / ROWS * 1e6)
    latency = []
    for _ in range(300):
        began = time.perf_counter()
        await store.put("u", joined[:50])
        latency.append(time.perf_counter() - began)
    longest = [await held(store.put("u", joined)) for _ in range(20)]
    await store.close()
    await client.aclose()
    return {
        "us_per_row": {name: round(statistics.median(values), 2) for name, values in spent.items()},
        "put_latency_ms": ms(latency),
        "loop_held_ms": ms(longest),
    }


async def refill(url: str, size: int = 2048) -> dict[str, Any]:
    store = RedisStore(Settings(redis_url=url), timeout_s=5.0)
    memory = {key: key.to_bytes(8, "little") * (size // 8) for key in range(REFILL_ROWS)}

    async def read(_partition: int, from_offset: int, apply: Apply) -> int:
        for first in range(from_offset, REFILL_ROWS, 500):
            piece = range(first, min(first + 500, REFILL_ROWS))
            await apply([Record(key, key.to_bytes(8, "little"), memory[key]) for key in piece])
        return REFILL_ROWS

    feed = OnlineCopy(store, "i", read, rows_per_s=float("inf"))
    feed.attach(0, lambda keys: [memory[key] for key in keys.tolist()], REFILL_ROWS)
    latency: list[float] = []

    async def live() -> None:
        while True:
            began = time.perf_counter()
            await feed.put({0: PackedRows.of(range(50), [memory[key] for key in range(50)])})
            latency.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)

    stage = asyncio.create_task(live())
    began, cpu = time.perf_counter(), time.process_time()
    await feed.catch_up(0)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    stage.cancel()
    await store.close()
    return {
        "refill_rows_per_s": round(REFILL_ROWS / took),
        "refill_rows_per_cpu_s": round(REFILL_ROWS / cpu),
        "put_beside_refill_ms": ms(latency),
    }


async def main() -> None:
    with EmbeddedRedis() as server:
        result = {f"row_{size}": await writes(server.url, size) for size in (2048, 1024)}
        print(json.dumps({**result, **await refill(server.url)}))


if __name__ == "__main__":
    uvloop.run(main())
