"""Bytes of rows in a real Redis, and of records in the files of a real Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from headrace.serving.store.redis import RedisStore
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from sizes.rows import curves

#: Curve -> kind of the rows in Redis, attribute of their changelog in ``Topics``.
PLACES = {
    "user": ("u", "user_state"),
    "shown": ("s", "shown_state"),
    "item": ("i", "item_features"),
    "neighbour": ("n", "neighbours"),
}


def topic_bytes(data: Path, topic: str) -> int:
    """Return the bytes of a topic in the files of a broker, without its indexes."""
    return sum(
        segment.stat().st_size
        for folder in (data / "log").glob(f"{topic}-*")
        if folder.name.removeprefix(f"{topic}-").isdigit()
        for segment in folder.glob("*.log")
    )


async def redis_bytes(url: str) -> int:
    """Return the memory that Redis uses for data."""
    async with Redis.from_url(url) as client:
        return int((await client.info("memory"))["used_memory_dataset"])


async def rows(settings: Settings, data: Path) -> dict[str, Any]:
    """Return for each curve its points: x, bytes packed, in Redis, in Kafka."""
    out: dict[str, Any] = {}
    store, sender = RedisStore(settings, timeout_s=30.0), BatchSender(settings)
    await sender.start()
    try:
        for name, x, packed in curves():
            kind, topic = PLACES[name][0], getattr(Topics(settings), PLACES[name][1])
            before = await _emptied(settings.redis_url)
            await store.put(kind, packed)
            in_redis = await redis_bytes(settings.redis_url) - before
            written = topic_bytes(data, topic)
            await sender.send_rows(topic, packed, partition=0)
            out.setdefault(name, []).append({
                "x": x, "packed": _each(len(packed.blob), packed), "redis": _each(in_redis, packed),
                "kafka": _each(topic_bytes(data, topic) - written, packed),
            })  # fmt: skip
    finally:
        await sender.stop()
        await store.close()
    return out


async def _emptied(url: str) -> int:
    async with Redis.from_url(url) as client:
        await client.flushall()
    return await redis_bytes(url)


def _each(size: int, packed: PackedRows) -> float:
    return round(size / len(packed.keys), 1)
