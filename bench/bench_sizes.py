"""What rows, records and work take, on a real Kafka and Redis: the constants of ``headrace capacity``.

    python bench/bench_sizes.py [--events N] [--items N] [--lists N] [--json FILE]    # prints one JSON object

- ``memory``: bytes a row, an id of the window, an event of the outcome join, in a worker.
- ``curves``: for users by events, for users by lists, for items by events of a week: bytes of a row packed,
  in Redis (key and expiry included), in the files of Kafka.
- ``records``: bytes of a record in the files of Kafka, as compressed as producers and workers write it; of
  `item-events` for each event, and for each shown slot.
- ``cpu_us``: CPU of a role for each event, each list, each shown slot, each example, each item row that
  serving reads. A process a role. First ``events`` are written at once. Then lists are asked for, 32 waiting
  at any time, while the roles that read what `serve` writes are stopped; then these read it all at once. So
  it is the CPU of workers that are busy: those that wait for records most of the time use more for each. What
  the processes use when idle is subtracted.
- ``idle_cores``, ``base_mb``: of a process that has started and has nothing to do.
- ``snapshot_item_bytes``: catalogue files, for each item; ``parquet_example_bytes``: the training log.

Run it while the machine does nothing else: CPU time on a busy core is up to a third larger.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from answering.caller import REPLIES, Caller
from bench_serve import models, until
from bench_serving import catalogue
from ingest.events import COUNTRIES, Mix, fill, mixed
from ingest.measure import Positions
from sizes import rows
from sizes.crew import Crew
from sizes.stored import rows as stored_rows
from sizes.stored import topic_bytes

from headrace.demo.embedded import free_port
from headrace.models.learning.log_files import folder_of as log_folder
from headrace.serving.snapshot.folder import folder_of
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import UserProfile
from headrace.streams.process import run
from headrace.streams.settings import Settings
from headrace.streams.topics import flow
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from ops.kafka.run import KafkaServer, RedisServer

ROLES = ("ingest", "aggregate", "learn", "log", "serve", "index", "trainer", "canary", "monitor")
WAITING, PROFILES = 32, 10_000
#: They read what `serve` writes. While lists are asked for, they are stopped; then they have all at once.
READERS = ("ingest", "aggregate", "learn", "log")
#: Less than one tick of the CPU clock while it idled cannot be seen.
LEAST_CORES = 0.001
#: Short waits, so that a phase ends; a share of the lists is traced.
PACE: dict[str, Any] = {
    "partitions": 4, "outcome_wait_ms": 8000, "passed_wait_ms": 2000, "log_flush_s": 2.0, "trace_share": 0.05,
    "snapshot_every_s": 0.0, "canary_every_s": 3600.0, "canary_publish_every_s": 3600.0,
    "towers_every_s": 0.0,
    "train_every_s": 3600.0, "redis_read_ms": 1000, "session_timeout_s": 300.0,  # while they are stopped
}  # fmt: skip


def profiles(count: int) -> list[tuple[bytes, bytes, int]]:
    """Return profiles as an account service writes them."""
    encode = msgspec.json.Encoder().encode
    return [
        (b"user-%07d" % n, encode(UserProfile(
            f"user-{n:07d}", country=COUNTRIES[n % 20], age=20 + n % 50, language="en",
            preferred_categories=[f"category-{n % 40}", f"category-{n % 7}"],
            followed_creators=[f"creator-{(n * k) % 2000:04d}" for k in (3, 7, 11)],
        )), now_ms())
        for n in range(count)
    ]  # fmt: skip


async def live(
    args: argparse.Namespace, kafka: KafkaServer, redis: RedisServer, folder: Path
) -> dict[str, Any]:
    """Run all roles; return records, CPU and memory."""
    settings = Settings(
        brokers=kafka.address, redis_url=redis.url, data_dir=folder / "data", topic_prefix="live-",
        monitor_port=free_port(), **PACE,
    )  # fmt: skip
    topics, now = Topics(settings), now_ms()
    await create_topics(settings)
    mix = Mix(items=args.items)
    await fill(settings, topics.items, catalogue(args.items, now, digits=6), settings.partitions)
    await fill(settings, topics.users, profiles(PROFILES), settings.partitions)
    size = {name: topic_bytes(kafka.data, name) for name in (topics.items, topics.users)}
    await models(settings, topics.models)
    out: dict[str, Any] = {
        "records": {"item": size[topics.items] / args.items, "profile": size[topics.users] / PROFILES}
    }
    with Crew(settings, folder, ("index",)) as first_index:
        current = folder_of(settings) / "CURRENT"
        await until(current.exists, first_index.workers["index"], "snapshot", 600)
        snapshot = current.with_name(current.read_text().strip())
        out["snapshot_item_bytes"] = round(sum(f.stat().st_size for f in snapshot.iterdir()) / args.items, 1)
    events = mixed(args.events, mix, now)
    users = sorted({key.decode() for key, _, _ in events})
    with Crew(settings, folder, ROLES) as crew:
        await crew.rest()
        out["idle_cores"] = {role: round(max(cores, LEAST_CORES), 4) for role, cores in crew.idle.items()}
        out["base_mb"] = {role: round(size / 1e6, 1) for role, size in crew.resident().items()}
        async with Positions(kafka.address) as positions, Caller(settings, users, COUNTRIES) as caller:
            done = partial(_counted, positions, settings)
            first = await crew.phase(fill(settings, topics.events, events, settings.partitions), done)
            rows_written = await _count(positions, settings, topics.item_features, topics.item_countries)
            item_events = topic_bytes(kafka.data, topics.item_events)
            out["records"]["event"] = topic_bytes(kafka.data, topics.events) / len(events)
            out["records"]["item_event"] = item_events / len(events)
            await caller.first(60)
            await crew.phase(caller.in_flight(WAITING, 2), done)
            before = await _sizes(positions, settings, kafka.data)
            asked: list[Any] = []

            async def ask() -> None:
                with crew.frozen(READERS):
                    while sum(out.answered for out in asked) < args.lists:
                        asked.append(await caller.in_flight(WAITING, 2))

            second = await crew.phase(ask(), done)
            after = await _sizes(positions, settings, kafka.data)
        out |= _figures(out, settings, args, first, second, before, after, asked, rows_written)
        out["busy_mb"] = {role: round(size / 1e6, 1) for role, size in crew.resident().items()}
    return out


async def _counted(positions: Positions, settings: Settings) -> bool:
    """Return whether the roles that read what `serve` writes have done with all of it."""
    for role in READERS:
        for name in flow.group_reads()[role]:
            topic = getattr(Topics(settings), name)
            ends = await positions.ends(topic, settings.partitions)
            done = await positions.committed(settings.name(f"headrace-{role}"), topic)
            if any(done.get(p, 0) < end for p, end in ends.items()):
                return False
    return True


async def _count(positions: Positions, settings: Settings, *topics: str) -> int:
    """Return how many records some topics have."""
    return sum([sum((await positions.ends(topic, settings.partitions)).values()) for topic in topics])


async def _sizes(positions: Positions, settings: Settings, data: Path) -> dict[str, tuple[int, int]]:
    """Return records and bytes of the topics that lists make."""
    topics = Topics(settings)
    names = (topics.requests, topics.impressions, topics.traces, topics.examples, topics.item_events)
    out = {n: (await _count(positions, settings, n), topic_bytes(data, n)) for n in names}
    replies = settings.name(REPLIES)
    parts = sum(1 for _ in (data / "log").glob(f"{replies}-[0-9]*"))
    out["replies"] = (sum((await positions.ends(replies, parts)).values()), topic_bytes(data, replies))
    return out


def _figures(
    out: dict[str, Any], settings: Settings, args: argparse.Namespace, first: Any, second: Any,
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], asked: Any, rows_written: int,
) -> dict[str, Any]:  # fmt: skip
    """Return what both phases say."""
    topics = Topics(settings)
    more = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
    lists, examples = more[topics.impressions][0], more[topics.examples][0]
    slots = 20 * lists
    records = out["records"] | {
        short: more[name][1] / max(more[name][0], 1)
        for short, name in (
            ("request", topics.requests), ("impression", topics.impressions), ("trace", topics.traces),
            ("example", topics.examples), ("reply", "replies"),
        )
    }  # fmt: skip
    records["item_shown"] = more[topics.item_events][1] / slots
    parquet = sum(f.stat().st_size for f in log_folder(settings).rglob("*.parquet"))
    logged = after[topics.examples][0]
    cpu = {
        "ingest_event": first.cpu_s["ingest"] / args.events,
        "aggregate_event": first.cpu_s["aggregate"] / args.events,
        "learn_event": first.cpu_s["learn"] / args.events,
        "serve_item_row": first.cpu_s["serve"] / rows_written,
        "ingest_list": second.cpu_s["ingest"] / lists,
        "aggregate_slot": second.cpu_s["aggregate"] / slots,
        "learn_list": second.cpu_s["learn"] / lists,
        "log_example": second.cpu_s["log"] / examples,
        "serve_list": second.cpu_s["serve"] / lists,
    }
    return {
        "records": {name: round(size, 2) for name, size in records.items()},
        "cpu_us": {name: round(1e6 * seconds, 3) for name, seconds in cpu.items()},
        "parquet_example_bytes": round(parquet / logged, 1),
        "lists": lists, "examples": examples, "lists_full": sum(one.full for one in asked),
        "events": args.events,
        "item_rows_written": rows_written, "wall_s": [round(first.wall_s, 1), round(second.wall_s, 1)],
    }  # fmt: skip


async def bench(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything."""
    out: dict[str, Any] = {
        "items": args.items, "cores": os.cpu_count(), "load_average_before": round(os.getloadavg()[0], 2),
        "memory": rows.memory(), "pairs_per_event": round(rows.user_rows(64)[1], 3),
    }  # fmt: skip
    with KafkaServer() as kafka, RedisServer() as redis:
        settings = Settings(brokers=kafka.address, redis_url=redis.url, topic_prefix="rows-")
        await create_topics(settings)
        out["curves"] = await stored_rows(settings, kafka.data)
        out |= await live(args, kafka, redis, folder)
    return out


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--lists", type=int, default=1500)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="headrace-sizes-") as folder:
        text = json.dumps(run(bench(args, Path(folder))), indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
