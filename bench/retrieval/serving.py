"""A serving process on a snapshot, and one that reads all of `items`: start, stalls, items a second."""

from __future__ import annotations

import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.agents.follow_catalog import CatalogFollower
from headrace.serving.catalog import Catalog
from headrace.serving.catalog_changes import Origin
from headrace.serving.index.hot import HotIndex
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.snapshot.base import Base
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.streams.messages.schemas import Item, RecRequest
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.transport.batches import RecordBatch

NOW = 1_700_000_000_000
#: Items that change before a swap, and how many arrive at once.
CHANGED, BATCH = 20_000, 4000


class Record(NamedTuple):
    key: bytes
    value: bytes
    offset: int
    timestamp: int = NOW
    headers: tuple[Any, ...] = ()


def made_up(first: int, n: int, seed: int = 1) -> list[Item]:
    """Return items of the size of news: seven words, three tags; published within a year."""
    rng = np.random.default_rng(seed)

    def ranks(m: int, *shape: int) -> np.ndarray:
        share = np.cumsum(1 / np.arange(1, m + 1))
        return np.searchsorted(share, rng.random(shape) * share[-1])

    words, tags = ranks(50_000, n, 7), ranks(10_000, n, 3)
    categories, creators = ranks(300, n), ranks(20_000, n)
    times = NOW - rng.integers(0, 365 * DAY_MS, n)
    return [
        Item(
            item_id=f"item-{first + i:08d}",
            published_ts=int(times[i]),
            title=" ".join(f"word{w}" for w in words[i].tolist()),
            category=f"category{categories[i]}",
            creator_id=f"creator{creators[i]}",
            tags=[f"tag{t}" for t in tags[i].tolist()],
            language="de",
            countries=["BR"] if i % 10 == 0 else [],
        )
        for i in range(n)
    ]


def from_topic(n: int) -> dict[str, Any]:
    """Read records of ``n`` items into a catalogue in memory, with a hot index."""
    records = [Record(i.item_id.encode(), msgspec.json.encode(i), at) for at, i in enumerate(made_up(0, n))]
    follower = CatalogFollower(Catalog(), HotIndex(48 * HOUR_MS))
    gc.set_threshold(100_000, 50, 100)  # as a worker does
    began = time.process_time()
    for at in range(0, n, BATCH):
        follower.apply(RecordBatch("items", 0, records[at : at + BATCH]), NOW)
    spent = time.process_time() - began
    assert len(follower.catalog) == n
    return {"topic_items_a_cpu_s": round(n / spent), "topic_items": n}


def serve(folder: Path, n: int) -> dict[str, Any]:
    """Start a recommender on the snapshot, answer, change items, and change to the snapshot again."""
    begun = float(os.environ["BEGUN"])
    recommender = Recommender(Policy())
    catalog = recommender.catalog
    catalog.swap(Base(CatalogSnapshot(folder)))
    _answer(recommender, 0)
    out: dict[str, Any] = {"serve_start_s": round(time.time() - begun, 2)}
    took = []
    for i in range(50):
        clock = time.thread_time()
        _answer(recommender, i)
        took.append(1000 * (time.thread_time() - clock))
    out["answer_cpu_p50_ms"] = round(float(np.median(took)), 2)
    items = made_up(0, min(CHANGED, n))
    for at in range(0, len(items), BATCH):
        some = items[at : at + BATCH]
        catalog.put_many(some, Origin(0, np.arange(at, at + len(some)), NOW))
    recommender.close()
    return out | {"changed_items": len(items)} | _swap(catalog, folder)


def _answer(recommender: Recommender, i: int) -> None:
    keys = recommender.catalog.newest.newest(NOW + DAY_MS * 4000, 100)
    clicked = recommender.catalog.id_of(int(keys[i]))
    asked = RecRequest(request_id=f"r{i}", user_id="u", surface="related", item_id=clicked)
    recommender.tick(NOW)
    anchors = Anchors(recommender.anchors_for(asked, None, NOW), Anchors().rows)
    reply = recommender.answer(asked, None, anchors, NOW + DAY_MS * 4000).reply
    assert any("ann" in item.sources for item in reply.items)


def _swap(catalog: Catalog, folder: Path) -> dict[str, Any]:
    """Open the snapshot in a thread, swap and drop; return the times of the steps on the loop."""
    steps = dict[str, float]()

    def timed(name: str, step: Any) -> Any:
        began, cpu = time.perf_counter(), time.thread_time()
        result = step()
        for clock, spent in (("", time.perf_counter() - began), ("_cpu", time.thread_time() - cpu)):
            steps[name + clock] = max(steps.get(name + clock, 0), 1000 * spent)
        return result

    changed, keys = timed("begin", catalog.begin_swap), list[Any]()
    while (part := timed("begin", lambda: next(changed, None))) is not None:
        keys.append(part)

    def opened() -> Base:
        base = Base(CatalogSnapshot(folder))
        for part in keys:
            base.hide(part)
        return base

    with ThreadPoolExecutor(1) as pool:
        base = pool.submit(opened).result()
        old = [timed("swap", lambda: catalog.swap(base))]
        pool.submit(old.clear).result()
    while timed("drop", catalog.trim):
        pass
    assert not len(catalog.table)
    return {f"swap_{name}_ms": round(ms, 2) for name, ms in steps.items()}
