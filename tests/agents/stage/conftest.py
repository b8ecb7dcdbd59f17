"""A store in memory and a stage that writes to it; a Kafka broker that may be killed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fresh_topics import make_topics
from stage_rows import Record, Stage, rows_of
from torn_log import Broker

from headrace.serving.store.memory import MemoryStore
from headrace.streams.settings import Settings
from ops.kafka.run import KafkaServer


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def stage(store: MemoryStore) -> Stage:
    """A stage with 600 rows in memory and 100 evicted ones; everything is in the store."""
    stage = Stage(store)
    stage.change(rows_of(range(700)))
    await stage.flush()
    stage.change(rows_of(range(300), 1))
    await stage.flush()
    stage.log.append(Record(len(stage.log), None, b"no key"))
    stage.durable()
    stage.evict(range(250, 350))
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert stage.feed.caught_up
    stage.reads.clear()
    return stage


@pytest.fixture(scope="module")
def kafka() -> Iterator[Broker]:
    with ThreadPoolExecutor(1) as thread:
        server = KafkaServer()
        server._start_timeout_s = 180.0  # a start after a kill recovers all logs
        with server:
            yield Broker(server, thread)


@pytest.fixture
async def lossy(tmp_path, request, real_kafka) -> Settings:
    """Settings of an installation on a Kafka broker of its own, which may be killed."""
    if not real_kafka:
        pytest.skip("the embedded broker keeps its logs in memory")
    settings = Settings(
        brokers=request.getfixturevalue("kafka").address, topic_prefix=f"t{secrets.token_hex(4)}-",
        data_dir=tmp_path, snapshot_every_s=0, standby_replicas=0, durable_every_ms=200, session_timeout_s=6,
    )  # fmt: skip
    await make_topics(settings)
    return settings
