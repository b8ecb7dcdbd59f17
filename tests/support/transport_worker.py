"""Workers in processes of their own, and the offsets that they must have committed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from project import ROOT

from headrace.demo.stack import environment
from headrace.streams.settings import Settings


async def committed(settings: Settings, role: str, topic: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(settings.name(f"headrace-{role}"))
        return {tp.partition: found.offset for tp, found in offsets.items() if tp.topic == topic}
    finally:
        await admin.close()


async def committed_by(settings: Settings, role: str, offsets: dict[TopicPartition, int]) -> None:
    """Commit offsets as the group of a role; it must have no members."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers,
        group_id=settings.name(f"headrace-{role}"),
        enable_auto_commit=False,
    )
    async with consumer:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)


async def fill(sender, topic: str, per_partition: int, partitions: int = 4, chunk: int = 500) -> None:
    """Write ``p-i`` for i in 0..per_partition into every partition, in record batches of ``chunk``."""
    for p in range(partitions):
        for start in range(0, per_partition, chunk):
            await sender.send_many(
                topic,
                (
                    (b"k%d" % i, b"%d-%d" % (p, i), None, ())
                    for i in range(start, min(start + chunk, per_partition))
                ),
                partition=p,
            )


WORKER = """
import asyncio, os, sys
from headrace.streams.app import make_app
from headrace.streams.process import run, run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable

async def main(brokers, prefix, session, path, pause, member):
    session = float(session)
    small = {"batch_max_records": 100, "session_timeout_s": session}
    settings = Settings(brokers=brokers, topic_prefix=prefix, **small)
    static = {"consumer_group_instance_id": member} if member else {}
    app = make_app(settings, "killed", broker_commit_interval=0.1, **static)
    done = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @app.agent(batch_topic(app, Topics(settings).events))
    async def collect(stream):
        async for batch in durable(stream):
            half = len(batch) // 2
            os.write(done, b"".join(r.value + b"\\n" for r in batch.records[:half]))
            await asyncio.sleep(float(pause))
            os.write(done, b"".join(r.value + b"\\n" for r in batch.records[half:]))

    await run_apps([app], settings=settings)

run(main(*sys.argv[1:]))
"""


def start_worker(settings: Settings, path: Path, pause: float, member: str = "") -> subprocess.Popen[bytes]:
    """Start a worker. A named one is a static member: after a restart it gets its partitions at once."""
    root = ROOT
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            WORKER,
            settings.brokers,
            settings.topic_prefix,
            str(settings.session_timeout_s),
            str(path),
            str(pause),
            member,
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )


def check_committed_is_processed(offsets: dict[int, int], processed: set[bytes]) -> None:
    for partition, offset in offsets.items():
        missing = [i for i in range(max(offset, 0)) if b"%d-%d" % (partition, i) not in processed]
        assert not missing, f"partition {partition} is committed up to {offset} without {missing[:5]}"


@asynccontextmanager
async def worker_process(settings: Settings, role: str, log: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run ``headrace worker`` in a process of its own; kill it at the end."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "headrace", "worker", role],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(settings),
        )
    try:
        yield started
    finally:
        started.kill()
        await asyncio.to_thread(started.wait)
