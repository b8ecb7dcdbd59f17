"""Records an installation of version 0.1.0, for the tests: its topics, offsets and data directory.

Version 0.1.0 is commit 424b90a. It has to run in an environment of its own::

    mkdir OLD && git archive 424b90a | tar -x -C OLD
    python -m venv ENV && ENV/bin/pip install './OLD[embedded]'
    ENV/bin/python tests/upgrade/record.py tests/upgrade/installation-0.1.0.xz

A small audience clicks, skips, dwells, likes, hides and follows, has profiles, asks for lists and is shown
them; some events come twice, late or broken, and one user is forgotten. The workers are then stopped cleanly.
The file has one JSON object a line, compressed (``recorded.py`` reads it): the settings, every record of
every topic, every committed offset, every file of the data directory.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import lzma
import random
import sys
import time
from pathlib import Path
from typing import Any

PARTITIONS, USERS, ITEMS, EVENTS, REQUESTS = 2, 40, 60, 1500, 40
ROLES = ("ingest", "aggregate", "learn", "log", "serve")
KINDS = ("click", "click", "click", "skip", "dwell", "like", "save", "hide", "follow")


def old(module: str) -> Any:
    """Return a module of version 0.1.0: its folders were packages of their own."""
    return importlib.import_module(module)


def b64(value: bytes | None) -> str | None:
    """Return bytes as text."""
    return None if value is None else base64.b64encode(value).decode()


async def load(settings: Any) -> None:
    """Send items, profiles, events and requests; wait for the replies."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    rng, now = random.Random(1), int(time.time() * 1000)
    send = AIOKafkaProducer(bootstrap_servers=settings.brokers)
    replies = AIOKafkaConsumer(
        "rec-replies", bootstrap_servers=settings.brokers, auto_offset_reset="earliest"
    )
    async with send, replies:

        async def put(topic: str, key: str, value: Any, **more: Any) -> None:
            body = None if value is None else json.dumps(value).encode()
            await send.send(topic, body, key=key.encode(), **more)

        for i in range(ITEMS):
            await put("items", f"item-{i}", {
                "item_id": f"item-{i}", "title": f"Story {i}", "category": f"category-{i % 7}",
                "creator_id": f"creator-{i % 11}", "published_ts": now - 3_600_000 + i,
            })  # fmt: skip
        for u in range(0, USERS, 2):
            await put("users", f"user-{u}", {
                "user_id": f"user-{u}", "country": "DE", "language": "de", "age": 20 + u,
                "preferred_categories": ["category-1"], "followed_creators": ["creator-2"],
            })  # fmt: skip
        await send.flush()
        for n in range(EVENTS):
            user, item = f"user-{rng.randrange(USERS)}", f"item-{int(rng.random() ** 2 * ITEMS)}"
            event = {
                "event_id": f"event-{n - n % 50 // 49}", "type": rng.choice(KINDS), "user_id": user,
                "item_id": item, "ts": now - 60_000 + n * 10, "dwell_ms": rng.randrange(60_000),
                "context": {"country": rng.choice(["DE", "FR", ""])},
            }  # fmt: skip
            if n % 100 == 99:
                event["ts"] = "never"
            await put("events", user, event)
            if n % 40 == 0:
                await send.flush()
                await ask(put, user, n)
                await asyncio.sleep(0.2)
        await put("users", "user-3", None)
        await send.flush()
        await asyncio.sleep(5)
        for n in range(REQUESTS):
            await ask(put, f"user-{n % USERS}", EVENTS + n)
        await send.flush()
        answered = 0
        while answered < REQUESTS:
            answered += sum(map(len, (await replies.getmany(timeout_ms=5000)).values()))


async def ask(put: Any, user: str, n: int) -> None:
    """Ask for a list."""
    request = {"request_id": f"request-{n}", "user_id": user, "surface": "home", "n": 10}
    headers = [("reply_to", b"rec-replies"), ("correlation_id", b"1")]
    await put("rec-requests", user, request, headers=headers)


async def caught_up(settings: Any) -> None:
    """Wait until the groups of rows have committed everything."""
    lag = old("streams.lag").lag
    for _ in range(300):
        behind = [r for r in await lag(settings) if r.agent in ("ingest", "aggregate") and r.records]
        if not behind:
            return
        await asyncio.sleep(0.5)
    raise SystemExit(f"the workers do not catch up: {behind}")


async def dump(settings: Any) -> list[dict[str, Any]]:
    """Return all topics and committed offsets."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient

    out: list[dict[str, Any]] = []
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    reader = AIOKafkaConsumer(bootstrap_servers=settings.brokers, auto_offset_reset="earliest")
    await admin.start()
    async with reader:
        known = sorted(vars(old("streams.topics").Topics(settings)).values())
        tps = [
            TopicPartition(t["topic"], p["partition"])
            for t in await admin.describe_topics(known)
            for p in t["partitions"]
        ]
        for tp in sorted(tps):
            reader.assign([tp])
            await reader.seek_to_beginning(tp)
            end = (await reader.end_offsets([tp]))[tp]
            out.append({"topic": tp.topic, "partition": tp.partition, "end": end})
            while await reader.position(tp) < end:
                for r in (await reader.getmany(tp, timeout_ms=2000)).get(tp, []):
                    headers = [[name, b64(value)] for name, value in r.headers]
                    out.append(
                        {
                            "at": r.offset,
                            "ts": r.timestamp,
                            "key": b64(r.key),
                            "value": b64(r.value),
                            "headers": headers,
                        }
                    )
        for role in ROLES:
            group = f"headrace-{role}"
            committed = await admin.list_consumer_group_offsets(group)
            out += [
                {"group": group, "topic": tp.topic, "partition": tp.partition, "offset": told.offset}
                for tp, told in sorted(committed.items())
            ]
    await admin.close()
    return out


def main(path: str) -> None:
    """Run the installation and write the file."""
    stack_of = old("agents.stack").Stack
    with stack_of() as stack:
        settings = stack.settings(
            partitions=PARTITIONS,
            outcome_wait_ms=2000,
            snapshot_every_s=10,
            log_flush_s=2,
            durable_every_ms=500,
        )
        asyncio.run(old("streams.topics").create_topics(settings))
        workers = [stack.start_worker(role, settings) for role in ROLES]
        time.sleep(8)
        asyncio.run(load(settings))
        asyncio.run(caught_up(settings))
        time.sleep(12)  # the last lists close, and a snapshot is written
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.wait(20)
        lines = [
            {"settings": {"partitions": PARTITIONS, "outcome_wait_ms": 2000}},
            *asyncio.run(dump(settings)),
        ]
        files = sorted(p for p in settings.data_dir.rglob("*") if p.is_file())
        lines += [
            {"file": str(p.relative_to(settings.data_dir)), "content": b64(p.read_bytes())} for p in files
        ]
    with lzma.open(path, "wt", preset=9 | lzma.PRESET_EXTREME) as out:
        out.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    print(f"{len(lines)} lines, {Path(path).stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
