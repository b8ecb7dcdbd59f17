"""Towers and the role index on a broker: the newest towers make a snapshot, serving uses both at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from learnt_towers import learnt_body
from worlds import item, request

from headrace.agents.build_index import IndexBuilder
from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.catalog_build import Built, build
from headrace.agents.stage.mapped_catalog import MappedCatalog
from headrace.agents.wiring import Wiring
from headrace.models.embeddings.artefact import towers_of, version_of
from headrace.models.embeddings.directions import F32
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.pieces import cut
from headrace.models.embeddings.towers import Towers
from headrace.serving.mirrors import Mirrors
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.snapshot.folder import SnapshotFolder, folder_of
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import SYSTEM
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.topics.tail import Tail

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]
N = 80
IDS = [f"i{n}" for n in range(N)]


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, partitions=2, catalog_every_s=0.05)


def told(n: int, **changes: Any) -> Item:
    """Return item ``n``; some have a vector of their publisher."""
    own = [1.0, float(n % 5)] if n % 4 == 0 else []
    age = {"published_ts": SYSTEM.now_ms() - HOUR_MS, "duration_ms": 1000 * (n + 1)}
    return item(n, **({"vector": own} | age | changes))


class Shop:
    """What is written to the topics."""

    def __init__(self, settings: Settings, sender: BatchSender) -> None:
        self.settings, self.sender, self.topics = settings, sender, Topics(settings)
        self.content, self._slot = ItemContent(), 0

    async def items(self, *items: Item) -> None:
        records = [(i.item_id.encode(), msgspec.json.encode(i), None, []) for i in items]
        await self.sender.send_keyed(self.topics.items, records)
        for one in items:
            self.content.put(one)

    async def towers(self, seed: int, lost: int = 0) -> bytes:
        """Publish towers, of which some pieces may be lost; return the artefact."""
        body = learnt_body(self.content, IDS, seed)
        pieces, head = cut(body, self._slot, seed, {}, {})
        self._slot = 1 - self._slot
        records = [(key, value, None, ()) for key, value in (*pieces[lost:], head)]
        await self.sender.send_many(self.topics.models, records, partition=0)
        return body

    def expected(self, towers: Towers, *ids: str) -> F32:
        return towers.item_vectors(hash_many(list(ids or IDS)), self.content)

    async def build(self) -> Built:
        return await build(self.settings)

    def wiring(self) -> Wiring:
        return Wiring(self.settings, self.sender, self.sender, MemoryStore(), SYSTEM)


@pytest.fixture
def shop(topics_made: Settings, sender: BatchSender) -> Shop:
    return Shop(topics_made, sender)


def opened(settings: Settings) -> CatalogSnapshot:
    snapshot = SnapshotFolder(folder_of(settings)).open(thorough=True)
    assert snapshot is not None
    return snapshot


def newest_version(settings: Settings) -> str:
    if SnapshotFolder(folder_of(settings)).current() is None:
        return "none"
    snapshot = opened(settings)
    snapshot.close()
    return snapshot.towers_version


class Serving:
    """A serving process: catalogue, indexes, towers; it follows the topics it is told to."""

    def __init__(self, shop: Shop, models: bool) -> None:
        self.shop, wiring = shop, shop.wiring()
        self.recommender = Recommender(Policy())
        self.catalog, self.hot = self.recommender.catalog, self.recommender.hot
        self._follower = CatalogFollower(self.catalog, self.hot)
        self.mapped = MappedCatalog(wiring, self.catalog, self.hot, 0.02, self.recommender.swap)
        mapped, topics = self.mapped, wiring.topics
        self.tail = mapped.tail = Tail(
            wiring.settings, topics.items, self._apply, starts=mapped.starts, turned=mapped.turned
        )
        mirrors, self.wiring = Mirrors(self.recommender), wiring
        self.tails = [self.tail]
        if models:
            take = Tail(wiring.settings, topics.models, lambda b: mirrors.models(b.records, SYSTEM.now_ms()))
            self.tails.append(take)

    async def _apply(self, batch: Any) -> None:
        await self._follower.follow([batch], self.wiring)
        self.mapped.applied[batch.partition] = batch.last_offset + 1

    @property
    def version(self) -> str:
        return self.catalog.vectors.version

    def check(self, towers: Towers, *ids: str) -> None:
        """Check that all that is read of items for one request is of these towers."""
        assert self.version == towers.version
        keys = hash_many(list(ids or IDS))
        expected = self.shop.expected(towers, *(ids or IDS))
        np.testing.assert_allclose(self.catalog.vectors_of(keys), expected, atol=2e-3)
        found, products = self.hot.search(expected[0], 10 * N)
        assert sorted(set(found.tolist())) == sorted(keys.tolist())
        by_key = dict(zip(keys.tolist(), expected @ expected[0], strict=True))
        np.testing.assert_allclose(products, [by_key[key] for key in found.tolist()], atol=0.01)
        if self.catalog.base is not None:
            assert self.catalog.searchable
            assert self.catalog.base.snapshot.towers_version == towers.version

    def ask(self) -> str:
        """Answer a request; return the version of the towers that the reply names."""
        self.recommender.tick(SYSTEM.now_ms())
        answer = self.recommender.answer(request("me"), None, Anchors(), SYSTEM.now_ms())
        assert "source:ann" not in answer.reply.degraded
        assert answer.reply.model is not None
        return answer.reply.model.embeddings


@asynccontextmanager
async def serving(shop: Shop, models: bool = True) -> AsyncIterator[Serving]:
    one = Serving(shop, models)
    for tail in one.tails:
        await tail.start()
        await asyncio.wait_for(tail.caught_up.wait(), 20)
    await one.mapped.start()
    try:
        yield one
    finally:
        await one.mapped.stop()
        for tail in one.tails:
            await tail.stop()
        one.recommender.close()


async def test_a_start_needs_only_the_snapshot_to_answer_by_its_towers(shop: Shop) -> None:
    await shop.items(*(told(n) for n in range(N)))
    body = await shop.towers(1)
    built = await shop.build()
    assert built.vectors.endswith(version_of(body))
    async with serving(shop, models=False) as one:
        assert len(one.catalog.table) == 0
        one.check(towers_of(body))
        assert one.ask() == version_of(body)


async def test_vectors_are_made_again_without_reading_the_items(shop: Shop) -> None:
    await shop.items(*(told(n) for n in range(N)))
    assert (await shop.build()).records == N
    for seed in (1, 2):
        body = await shop.towers(seed)
        built = await shop.build()
        assert (built.items, built.records) == (N, 0)
        snapshot = opened(shop.settings)
        rows = snapshot.find(hash_many(IDS))
        expected = shop.expected(towers_of(body))
        np.testing.assert_allclose(snapshot.vectors.vectors(rows), expected, atol=2e-3)
        near, _ = snapshot.index.search(expected[7], 1)
        assert near[0] == rows[7]
        snapshot.close()


async def test_base_and_towers_change_at_once_while_requests_are_answered(
    shop: Shop, eventually: Eventually
) -> None:
    await shop.items(*(told(n) for n in range(N)))
    await shop.build()
    versions, every = [Towers()], list(IDS)
    async with serving(shop) as one:
        one.check(versions[0])
        for seed in (1, 2):
            await shop.items(told(1000 + seed, category="sport"))
            every.append(f"i{1000 + seed}")
            body = await shop.towers(seed)
            await eventually(lambda: len(one.catalog) == len(every))
            assert one.ask() == versions[-1].version, "the towers wait for their files"
            await shop.build()
            await shop.items(told(2000 + seed, category="news"))
            every.append(f"i{2000 + seed}")
            versions.append(towers_of(body))
            seen = set()

            def swapped() -> bool:
                seen.add(one.ask())  # noqa: B023
                there = [i for i in every if one.catalog.find(hash_many([i]))[0] >= 0]
                one.check(next(t for t in versions if t.version == one.version), *there)
                return one.version == versions[-1].version and len(there) == len(every)

            await eventually(swapped)
            assert seen <= {t.version for t in versions[-2:]}
            await eventually(lambda: len(one.catalog.table) <= 1, 30)
            one.check(versions[-1], *every)
    async with serving(shop) as again:
        again.check(versions[-1], *every)


async def test_a_process_that_uses_towers_changes_to_the_first_snapshot(
    shop: Shop, eventually: Eventually
) -> None:
    await shop.items(*(told(n) for n in range(N)))
    first = await shop.towers(1)
    async with serving(shop) as one:
        await eventually(lambda: one.recommender.swap.advance(SYSTEM.now_ms()) or bool(one.version))
        one.check(towers_of(first))
        second = await shop.towers(2)
        await shop.build()
        await eventually(lambda: one.catalog.base is not None and len(one.catalog.table) == 0, 30)
        one.check(towers_of(second))


async def test_the_service_takes_new_towers_with_its_next_snapshot(
    shop: Shop, eventually: Eventually
) -> None:
    await shop.items(*(told(n) for n in range(N)))
    service = IndexBuilder(shop.wiring())
    await service.start()
    try:
        await eventually(lambda: newest_version(shop.settings) == "", 40)
        first = await shop.towers(1)
        await eventually(lambda: newest_version(shop.settings) == version_of(first), 40)
        folder = SnapshotFolder(folder_of(shop.settings))
        path = folder.current()
        await shop.towers(2, lost=1)
        await eventually(lambda: folder.current() != path, 40)
        path = folder.current()
        assert newest_version(shop.settings) == version_of(first), "a piece is missing"
        third = await shop.towers(3)
        await eventually(lambda: folder.current() != path, 40)
        assert newest_version(shop.settings) == version_of(third), "they were not tried again"
    finally:
        await service.stop()


#: Builds a snapshot; dies when the vectors of the last one are made again.
DIES = """
import asyncio, os, sys
from headrace.agents.stage.catalog_build import build
from headrace.models.embeddings.many import TowerVectors
from headrace.streams.settings import Settings
TowerVectors.item_vectors = lambda *_: os.kill(os.getpid(), 9)
asyncio.run(build(Settings(**eval(sys.argv[1]))))
"""


async def test_a_kill_while_vectors_are_made_leaves_the_last_version(
    shop: Shop, eventually: Eventually
) -> None:
    await shop.items(*(told(n) for n in range(N)))
    first = await shop.towers(1)
    await shop.build()
    second = await shop.towers(2)
    argument, path = repr(shop.settings.model_dump(mode="json")), {"PYTHONPATH": ":".join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, argument, env=os.environ | path
    )
    assert await process.wait() == -signal.SIGKILL
    assert (folder_of(shop.settings) / ".writing" / "arrivals").exists(), "it was in the middle"
    async with serving(shop) as one:
        one.check(towers_of(first))
        await shop.build()
        await eventually(lambda: one.version == version_of(second))
        one.check(towers_of(second))


async def test_a_snapshot_with_damaged_towers_is_refused(
    shop: Shop, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    await shop.items(*(told(n) for n in range(N)))
    first = await shop.towers(1)
    await shop.build()
    async with serving(shop) as one:
        second = await shop.towers(2)
        broken = SnapshotFolder(folder_of(shop.settings))
        await build_damaged(shop, broken)
        refused = "towers has version"
        await eventually(lambda: refused in caplog.text)
        assert "the last one stays in use" in caplog.text
        one.check(towers_of(first))
    async with serving(shop, models=False) as again:
        assert again.catalog.base is None
        assert "all of items is read" in caplog.text
        again.check(Towers())
        assert (await shop.build()).records == N, "the next one is made from the topic alone"
        await eventually(lambda: again.version == version_of(second), 30)
        again.check(towers_of(second))


async def build_damaged(shop: Shop, folder: SnapshotFolder) -> None:
    """Write a snapshot whose towers have a flipped bit; nobody sees it before."""
    aside = shop.settings.model_copy(update={"catalog_dir": str(shop.settings.data_dir / "aside")})
    await build(aside)
    made = SnapshotFolder(folder_of(aside)).current()
    assert made is not None
    raw = bytearray((made / "towers").read_bytes())
    raw[len(raw) // 2] ^= 4
    (made / "towers").write_bytes(raw)
    with folder.writing() as path:
        for file in made.iterdir():
            file.rename(path / file.name)


async def test_without_towers_on_the_topic_those_of_the_last_snapshot_stay(
    shop: Shop, sender: BatchSender
) -> None:
    await shop.items(*(told(n) for n in range(N)))
    await shop.build()
    async with serving(shop) as one:
        one.check(Towers())
    body = await shop.towers(1)
    await shop.build()
    gone = [(key, None, None, ()) for key, _ in (*cut(body, 0, 1, {}, {})[0], (b"towers", b""))]
    await sender.send_many(shop.topics.models, gone, partition=0)
    await shop.items(told(500))
    assert (await shop.build()).records == 1
    async with serving(shop) as one:
        one.check(towers_of(body), *IDS, "i500")
