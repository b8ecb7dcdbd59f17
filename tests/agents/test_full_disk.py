"""A full disk stops the training log and nothing else; the log goes on by itself when there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from fresh_topics import make_topics
from installation import now_ms, producer, publish, until, worker
from logged_examples import example
from small_disk import fill, mounted
from strategies import T0

from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import folder_of
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

ROLES = ["ingest", "log", "trainer"]


async def committed(settings: Settings) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(settings.name("headrace-log"))
        return sum(max(0, found.offset) for found in offsets.values())
    finally:
        await admin.close()


async def test_a_full_disk_stops_the_log_alone_and_heals(
    make_settings: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted(tmp_path / "small") as disk:
        settings = make_settings(data_dir=disk, log_flush_s=0.2, snapshot_every_s=0, partitions=2)
        topics, filler = Topics(settings), fill(disk)
        await make_topics(settings)
        rng = np.random.default_rng(0)
        examples = [example(n, rng, user=f"u{n % 10}") for n in range(100)]
        for shown in examples:
            shown.ts += T0
        async with producer(settings) as sender:
            async with worker(settings, ROLES):
                await publish(sender, topics.examples, [(e.user_id, e) for e in examples])
                await until(lambda: asyncio.sleep(0, caplog.text), lambda text: "cannot be written" in text)

                event = Event("e1", "click", "somebody", "i1", now_ms())
                await publish(sender, topics.events, [("somebody", event)])
                store = RedisStore(settings)
                (row,) = await until(lambda: store.get("u", [hash64("somebody")]), lambda r: r[0] is not None)
                await store.close()
                assert unpack([row], user_state.ROW)[0]["n_clicks"][0] == 1
                assert await committed(settings) == 0
                began = time.monotonic()
            assert time.monotonic() - began < 10, "a clean stop does not wait for the disk"
            async with worker(settings, ROLES):  # a start does not need the disk either
                filler.unlink()
                await until(lambda: committed(settings), lambda offset: offset == len(examples))
        log = example_log.read(folder_of(settings))
        assert sorted(log.column("user_id").to_pylist()) == sorted(e.user_id for e in examples)
