"""Predictions of ``headrace capacity`` beside measurements at three sizes, on a real Kafka and Redis.

    python bench/bench_capacity.py [--users 25000,100000,400000] [--events-each N]    # prints JSON

At each size, N events for each of so many users are written, by chance: some have none, and those who are
counted have more than N each. `ingest` and `aggregate` (a process each) count them all. Counted are rows and
records; measured are the bytes in Redis and in the files of Kafka, the resident memory of both processes at
the end, and their CPU for each event, less what the constants say of idling. The predictions use the
constants that are shipped (``bench/sizes/predicted.py``), which were measured with other events.
``make bench-capacity JSON=bench/sizes/checked.json`` writes what docs/capacity.md shows.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from capacity_constants import provenance
from ingest.events import Mix, catalogue, fill, mixed
from ingest.measure import Positions
from redis.asyncio import Redis
from sizes.crew import Crew
from sizes.predicted import compared
from sizes.stored import redis_bytes, topic_bytes

from headrace.console.sizing.constants import shipped
from headrace.streams.clock import now_ms
from headrace.streams.process import run
from headrace.streams.settings import MINUTE_MS, Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.transport.fetching import ISOLATION
from ops.kafka.run import KafkaServer, RedisServer

ROLES = ("ingest", "aggregate")
ITEMS, CHUNK = 20_000, 200_000
MB = 1e6


async def size(users: int, each: int, kafka: KafkaServer, redis: RedisServer, folder: Path) -> dict[str, Any]:
    """Measure at one size."""
    settings = Settings(
        brokers=kafka.address, redis_url=redis.url, topic_prefix=f"u{users}-", data_dir=folder / f"u{users}",
        partitions=4, snapshot_every_s=0.0, standby_replicas=0,
    )  # fmt: skip
    topics, count = Topics(settings), users * each
    await create_topics(settings)
    async with Redis.from_url(redis.url) as client:
        await client.flushall()
    empty = await redis_bytes(redis.url)
    mix = Mix(users=users, active=users, items=ITEMS)
    await fill(settings, topics.items, catalogue(mix, now_ms()), settings.partitions)
    with Crew(settings, folder, ROLES) as crew:
        await crew.rest()
        # On a busy machine a few seconds do not say what a process uses when idle.
        crew.idle = {role: shipped()[f"idle_cores_{role}"] for role in ROLES}

        async def write() -> set[bytes]:
            seen: set[bytes] = set()
            parts = -(-count // CHUNK)
            for part in range(parts):
                # The same users, other events: so many minutes of stream time go by.
                now = now_ms() - (parts - 1 - part) * mix.span_ms // parts
                chunk = Mix(
                    users=users, active=users, items=ITEMS, span_ms=mix.span_ms // parts, seed=7 + part
                )
                events = mixed(min(CHUNK, count - part * CHUNK), chunk, now)
                seen |= {key for key, _, _ in events}
                await fill(settings, topics.events, events, settings.partitions)
            return seen

        written: list[set[bytes]] = []

        async def work() -> None:
            written.append(await write())

        async with Positions(kafka.address) as positions:

            async def done() -> bool:
                for role, topic in (("ingest", topics.events), ("aggregate", topics.item_events)):
                    ends = await positions.ends(topic, settings.partitions)
                    reached = await positions.committed(settings.name(f"headrace-{role}"), topic)
                    if any(reached.get(p, 0) < end for p, end in ends.items()):
                        return False
                return True

            phase = await crew.phase(work(), done)
            rows_written = sum((await positions.ends(topics.user_state, settings.partitions)).values())
        resident = crew.resident()
    keys = {kind: await _keys(redis.url, f"{settings.topic_prefix}{kind}:*") for kind in "uin"}
    countries = await _rows_of(settings, topics.item_countries)
    return {
        "counted": {
            "users": len(written[0]), "items": keys["i"], "neighbours": keys["n"], "countries": countries,
            "catalogue": ITEMS, "events": count, "minutes": mix.span_ms / MINUTE_MS,
            "users_in_redis": keys["u"], "user_rows_written": rows_written,
        },
        "measured": {
            "Redis, data": (await redis_bytes(redis.url) - empty) / MB,
            "`events` on disk": topic_bytes(kafka.data, topics.events) / MB,
            "`item-events` on disk": topic_bytes(kafka.data, topics.item_events) / MB,
            "`user-state` on disk": topic_bytes(kafka.data, topics.user_state) / MB,
            "memory of `ingest`": resident["ingest"] / MB,
            "memory of `aggregate`": resident["aggregate"] / MB,
            "CPU of `ingest`, an event": 1e6 * phase.cpu_s["ingest"] / count,
            "CPU of `aggregate`, an event": 1e6 * phase.cpu_s["aggregate"] / count,
        },
        "wall_s": round(phase.wall_s, 1),
    }  # fmt: skip


async def _keys(url: str, pattern: str) -> int:
    async with Redis.from_url(url) as client:
        return len({key async for key in client.scan_iter(pattern, count=5000)})


async def _rows_of(settings: Settings, topic: str) -> int:
    """Return how many different keys of rows a changelog has."""
    consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False, isolation_level=ISOLATION)
    keys = set[bytes]()
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(tps)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500, max_records=20_000)).values():
                keys |= {record.key for record in records if len(record.key) == 8}
    finally:
        await consumer.stop()
    return len(keys)


async def bench(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure every size."""
    out: dict[str, Any] = {"run": provenance("make bench-capacity"), "sizes": []}
    constants = shipped()
    for users in args.users:
        with KafkaServer() as kafka, RedisServer() as redis:
            one = await size(users, args.events_each, kafka, redis, folder)
        out["sizes"].append(one)
        if args.json:
            args.json.write_text(json.dumps(out, indent=1) + "\n")
        for line in compared(one, constants):
            print(
                f"{users:,} users: {line.what}: {line.predicted:,.1f} {line.unit} predicted, "
                f"{line.measured:,.1f} measured, {line.error:+.0%}",
                file=sys.stderr,
                flush=True,
            )
    return out


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--users",
        type=lambda text: [int(n) for n in text.split(",")],
        default=[25_000, 100_000, 400_000],
    )
    parser.add_argument("--events-each", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="headrace-capacity-") as folder:
        text = json.dumps(run(bench(args, Path(folder))), indent=1)
    print(text)


if __name__ == "__main__":
    main()
