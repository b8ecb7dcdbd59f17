"""A serving stage without a broker: requests as records, and a broker that keeps what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka.errors import MessageSizeTooLargeError
from worlds import World, item

from headrace.agents.recommend import ServeStage
from headrace.agents.wiring import Wiring
from headrace.serving.mirrors import Mirrors
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import read_dead_letter
from headrace.streams.topics.sender import OutRecord
from headrace.streams.transport.batches import RecordBatch

NOW = 1_700_000_000_000
TO_P = [("reply_to", b"rec-replies-p"), ("correlation_id", b"1")]


class Rec:
    """A record as it is read."""

    def __init__(self, value: bytes | None, key: bytes | None = b"k", offset: int = 0, **more: Any) -> None:
        self.key, self.value, self.offset = key, value, offset
        self.timestamp: int = more.get("timestamp", NOW)
        self.headers: Any = more.get("headers", TO_P)


class Broker:
    """A sender and the cluster behind it."""

    queued = False  # all is written at once

    def __init__(self, max_bytes: int = 1 << 20, takes: int = 1 << 20, **topics: int) -> None:
        self.topics = {name.replace("_", "-"): n for name, n in topics.items()}
        self.known: set[str] = set()
        self.max_bytes, self.takes = max_bytes, takes
        self.written: list[tuple[str, OutRecord]] = []
        self.keyed: list[str] = []
        self.listings = 0
        self.fails: Exception | None = None

    def known_partitions(self, topic: str) -> int:
        return self.topics.get(topic, 0) if topic in self.known else 0

    async def list_topics(self) -> dict[str, int]:
        self.listings += 1
        await asyncio.sleep(0)
        return dict(self.topics)

    async def get_to_know(self, topic: str) -> None:
        self.known.add(topic)

    async def send_one(self, topic: str, value: bytes, key: Any, partition: Any, headers: Any) -> Any:
        assert topic in self.known, "a producer waits 40 s for the metadata of a topic it does not know"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.fails is not None:
            done.set_exception(self.fails)
        else:
            self.written.append((topic, (key, value, None, headers)))
            done.set_result(None)
        return done

    async def send_keyed(self, topic: str, records: Iterable[OutRecord]) -> None:
        for record in records:
            if len(record[0] or b"") + len(record[1] or b"") > self.takes:
                raise MessageSizeTooLargeError
            self.keyed.append(topic)
            self.written.append((topic, record))

    def of(self, topic: str) -> list[OutRecord]:
        return [record for name, record in self.written if name == topic]

    def letters(self) -> list[tuple[str, str, int]]:
        records = [Rec(r[1], r[0], headers=r[3]) for r in self.of("dead-letters")]
        return [(x.reason, x.field, x.offset) for x in map(read_dead_letter, records)]


def stage_on(broker: Broker, settings: Settings | None = None) -> ServeStage:
    """Return a stage with some items; its own recommender, with ``settings``."""
    sender: Any = broker
    clock = ManualClock(NOW)
    stage = ServeStage(Wiring(settings or Settings(), sender, sender, MemoryStore(clock), clock=clock))
    if settings is not None:
        for n in range(30):
            stage.recommender.catalog.put(item(n))
        return stage
    stage.recommender = World(30).recommender
    stage.mirrors = Mirrors(stage.recommender)
    return stage


def batch(*records: Rec, partition: int = 0) -> RecordBatch:
    for offset, record in enumerate(records):
        record.offset = offset
    return RecordBatch("rec-requests", partition, list(records))


def body(**changes: Any) -> bytes:
    return msgspec.json.encode(
        {"request_id": "r", "user_id": "u", "surface": "home", "n": 3, "deadline_ms": 60_000, **changes}
    )
