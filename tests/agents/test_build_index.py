"""The role index on a broker: it writes snapshots, serving processes use those that fit."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from fresh_topics import delete_topics, make_topics
from logged_examples import processes_with
from worlds import item

from headrace.agents import build_index
from headrace.agents.build_index import IndexBuilder, changes_since, due
from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.catalog_build import build
from headrace.agents.stage.mapped_catalog import MappedCatalog
from headrace.agents.wiring import Wiring
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.serving.snapshot.files import MANIFEST
from headrace.serving.snapshot.folder import MAX_AGE_MS, SnapshotFolder, folder_of
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import SYSTEM, Clock, ManualClock
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.topics.tail import Tail
from headrace.streams.transport.places import Place

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, partitions=2, catalog_every_s=0.05)


async def send(sender: BatchSender, settings: Settings, *records: Item | str) -> None:
    """Write items, and tombstones of ids."""
    await sender.send_keyed(
        Topics(settings).items,
        [
            (r.encode(), None, None, [])
            if isinstance(r, str)
            else (r.item_id.encode(), msgspec.json.encode(r), None, [])
            for r in records
        ],
    )


def fresh(n: int, **changes: Any) -> Item:
    return item(n, published_ts=SYSTEM.now_ms() - HOUR_MS, **changes)


def opened(settings: Settings) -> CatalogSnapshot:
    snapshot = SnapshotFolder(folder_of(settings)).open(thorough=True)
    assert snapshot is not None
    return snapshot


class Serving:
    """The catalogue of a serving process."""

    def __init__(self, wiring: Wiring) -> None:
        self.catalog, self.hot = Catalog(), HotIndex(48 * HOUR_MS)
        self.follower = CatalogFollower(self.catalog, self.hot)
        self.mapped = MappedCatalog(wiring, self.catalog, self.hot, look_s=0.02)
        self.read: list[tuple[int, int]] = []
        self.wiring = wiring
        topic = wiring.topics.items
        self.tail = self.mapped.tail = Tail(
            wiring.settings, topic, self._apply, starts=self.mapped.starts, turned=self.mapped.turned
        )

    async def _apply(self, batch: Any) -> None:
        self.read += [(batch.partition, record.offset) for record in batch.records]
        await self.follower.follow([batch], self.wiring)
        self.mapped.applied[batch.partition] = batch.last_offset + 1

    def titles(self, *ids: str) -> list[str]:
        return [self.catalog.title_of(hash64(i), "-") for i in ids]


@asynccontextmanager
async def serving(wiring: Wiring) -> AsyncIterator[Serving]:
    one = Serving(wiring)
    await one.tail.start()
    await asyncio.wait_for(one.tail.caught_up.wait(), 20)
    await one.mapped.start()
    try:
        yield one
    finally:
        await one.mapped.stop()
        await one.tail.stop()
        one.hot.close()


def wired(settings: Settings, sender: BatchSender, clock: Clock = SYSTEM) -> Wiring:
    return Wiring(settings, sender, sender, MemoryStore(), clock)


async def test_a_process_starts_with_the_snapshot_and_reads_only_what_is_new(
    topics_made: Settings, sender: BatchSender, eventually: Eventually
) -> None:
    s = topics_made
    await send(sender, s, *(fresh(n) for n in range(40)), "i3", fresh(4, title="changed"))
    built = await build(s)
    assert (built.items, built.records) == (39, 42)
    await send(sender, s, fresh(40), fresh(5, title="newer"), "i6")
    async with serving(wired(s, sender)) as one:
        assert len(one.read) == 3
        assert one.titles("i3", "i4", "i5", "i6", "i40") == ["-", "changed", "newer", "-", "Title number 40"]
        assert (len(one.catalog), len(one.catalog.table)) == (39, 2)
        assert len(one.hot) == 39, "the new items of the snapshot, too"
        first = one.catalog.base
        built = await build(s)
        assert (built.items, built.records) == (39, 3)
        await eventually(lambda: one.catalog.base is not first)
        await eventually(lambda: len(one.catalog.table) == 0)
        assert one.titles("i3", "i4", "i5", "i6", "i40") == ["-", "changed", "newer", "-", "Title number 40"]
        assert one.mapped.longest_ms < 1000


async def test_a_process_that_read_the_topic_changes_to_the_first_snapshot(
    topics_made: Settings, sender: BatchSender, eventually: Eventually
) -> None:
    s = topics_made
    await send(sender, s, *(fresh(n) for n in range(10)), "i1")
    async with serving(wired(s, sender)) as one:
        assert (len(one.catalog.table), one.catalog.base) == (9, None)
        await build(s)
        await eventually(lambda: one.catalog.base is not None and len(one.catalog.table) == 0)
        assert len(one.catalog) == 9
        await send(sender, s, "i2", fresh(1))
        await eventually(lambda: one.titles("i1", "i2") == ["Title number 1", "-"])


async def test_a_topic_made_again_is_not_mixed_with_the_snapshot(
    topics_made: Settings, sender: BatchSender, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    s = topics_made
    await send(sender, s, *(fresh(n) for n in range(10)))
    await build(s)
    await delete_topics(s.brokers, [s.topic_prefix])
    await make_topics(s)
    again = BatchSender(s)
    await again.start()
    await send(again, s, *(fresh(n) for n in range(7, 30)))
    await again.stop()
    async with serving(wired(s, sender)) as one:
        assert one.catalog.base is None
        assert len(one.catalog) == 23
        assert "was deleted and made again" in caplog.text
        built = await build(s)
        assert (built.items, built.records) == (23, 23)
        await eventually(lambda: one.catalog.base is not None and len(one.catalog.table) == 0)


@pytest.mark.parametrize("harm", ["half a file", "no manifest", "a wrong format", "too old"])
async def test_a_bad_snapshot_is_refused_and_the_topic_used(
    topics_made: Settings, sender: BatchSender, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    s = topics_made
    await send(sender, s, *(fresh(n) for n in range(10)))
    await build(s)
    path = SnapshotFolder(folder_of(s)).current()
    assert path is not None
    clock: Clock = SYSTEM
    if harm == "half a file":
        os.truncate(path / "key", 8)
    elif harm == "no manifest":
        (path / MANIFEST).unlink()
    elif harm == "a wrong format":
        told = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps(told | {"format": 99}))
    else:
        clock = ManualClock(SYSTEM.now_ms() + MAX_AGE_MS + 1000)
    async with serving(wired(s, sender, clock)) as one:
        assert one.catalog.base is None
        assert len(one.catalog) == 10
        refused = [r for r in caplog.records if getattr(r, "action", "") == "snapshot_refused"]
        assert len(refused) == 1
        assert "all of items is read" in refused[0].getMessage()
    if harm != "too old":  # the next one is made from the topic alone
        assert (await build(s)).records == 10
        async with serving(wired(s, sender)) as one:
            assert len(one.catalog) == 10
            assert one.catalog.base is not None


async def test_the_service_writes_when_items_changed_and_only_then(
    topics_made: Settings, sender: BatchSender, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = topics_made
    looks = 0

    def counted(*args: Any) -> bool:
        nonlocal looks
        looks += 1
        return due(*args)

    monkeypatch.setattr(build_index, "due", counted)
    folder = SnapshotFolder(folder_of(s))
    await send(sender, s, fresh(1))
    service = IndexBuilder(wired(s, sender))
    await service.start()
    try:
        await eventually(lambda: folder.current() is not None, 30)
        assert len(opened(s)) == 1
        name, seen = folder.current(), looks
        await eventually(lambda: looks > seen + 3, 30)
        assert folder.current() == name, "nothing changed"
        await send(sender, s, fresh(2), "i1")
        await eventually(lambda: folder.current() != name, 30)
        snapshot = opened(s)
        assert (snapshot.find(hash_many(["i1", "i2"])) >= 0).tolist() == [False, True]
    finally:
        await service.stop()


#: Builds a snapshot; dies when it has read some items.
DIES = """
import asyncio, os, sys
from headrace.agents.stage.catalog_build import build
from headrace.streams.settings import Settings
class Dies:
    version = content = "64-x"
    def item_vectors(self, keys, content):
        os.kill(os.getpid(), 9)
asyncio.run(build(Settings(**eval(sys.argv[1])), Dies()))
"""


async def test_a_kill_in_the_middle_leaves_the_old_one(topics_made: Settings, sender: BatchSender) -> None:
    s = topics_made
    await send(sender, s, fresh(1))
    await build(s)
    await send(sender, s, fresh(2))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DIES,
        repr(s.model_dump(mode="json")),
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert await process.wait() == -signal.SIGKILL
    assert (folder_of(s) / ".writing" / "arrivals").exists(), "it was in the middle"
    assert len(opened(s)) == 1
    assert (await build(s)).items == 2
    assert not (folder_of(s) / ".writing").exists()


async def test_a_stop_ends_a_build(
    topics_made: Settings, sender: BatchSender, eventually: Eventually
) -> None:
    s = topics_made
    await send(sender, s, fresh(1))
    folder = str(folder_of(s))
    with SnapshotFolder(folder_of(s)).writing():
        service = IndexBuilder(wired(s, sender))
        await service.start()
        await eventually(lambda: processes_with(folder), 30)
        await asyncio.wait_for(service.stop(), 20)
    assert processes_with(folder) == []


async def test_two_builders_do_not_write_at_once(
    topics_made: Settings, sender: BatchSender, caplog: pytest.LogCaptureFixture
) -> None:
    s = topics_made
    await send(sender, s, fresh(1))
    caplog.set_level(logging.INFO)
    with SnapshotFolder(folder_of(s)).writing() as _, pytest.raises(BlockingIOError):
        await build(s)


def test_when_a_snapshot_is_due() -> None:
    s = Settings(catalog_every_s=60, catalog_changes=100)
    assert not due(s, 59_999, 99)
    assert due(s, 0, 100)
    assert due(s, 60_000, 1)
    assert not due(s, 60_000, 0)
    assert due(s, 60_000, 0, True), "other towers"
    assert not due(s, 59_999, 0, True), "they do not come more often than items"
    assert due(s, MAX_AGE_MS // 2 + 1, 0), "serving processes do not use old ones"


def test_how_many_records_changed() -> None:
    ends = {TopicPartition("items", 0): 10, TopicPartition("items", 1): 7}
    assert changes_since({0: Place(10), 1: Place(4)}, ends) == 3
    assert changes_since({0: Place(10)}, ends) == 7
    assert changes_since({0: Place(12), 1: Place(7)}, ends) > 0, "it was made again"
    assert changes_since({}, ends) == 17
