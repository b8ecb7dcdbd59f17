"""A serving stage with a catalogue, warm users and models in this process: no broker, the store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from bench_scoring import trained

from headrace.agents.recommend import ServeStage
from headrace.agents.wiring import Wiring
from headrace.models.features.spec import ONLINE_NAMES
from headrace.models.learning.online import OnlineWeights
from headrace.models.state import neighbours as neighbour_state
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.serving.index.hot import HotIndex
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.settled import Columns
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.columns import ITEM_EVENT, KIND, EventColumns
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.tables.rows import RowTable
from headrace.streams.topics.sender import OutRecord
from headrace.streams.transport.batches import RecordBatch

NOW = 1_790_000_000_000
CATEGORIES, CREATORS, COUNTRIES = 200, 20_000, ("BR", "US", "DE", "FR", "IN")
#: Items with events, clicks of each user.
ACTIVE, CLICKS = 20_000, 30
#: Items of the hot index that came since its last merge.
TAIL = 5000
_BLOCK = 1000
_ADDRESS = [("reply_to", b"rec-replies-bench"), ("correlation_id", b"1")]
_JSON = msgspec.json.Encoder()


class Taker:
    """Takes what is sent, and keeps the last of it."""

    queued = False

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.impressions: list[bytes] = []

    def known_partitions(self, topic: str) -> int:
        """Every topic has one partition."""
        return 1

    async def send_one(self, topic: str, value: bytes, key: Any, partition: Any, headers: Any) -> Any:
        """Take a reply."""
        self.replies.append(value)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def send_keyed(self, topic: str, records: Iterable[OutRecord]) -> None:
        """Take impressions."""
        self.impressions += [record[1] or b"" for record in records]


class Request:
    """A record of `rec-requests`."""

    def __init__(self, value: bytes, offset: int, timestamp: int = NOW) -> None:
        self.key, self.value, self.offset, self.timestamp = b"k", value, offset, timestamp
        self.headers = _ADDRESS


def requests(n: int, users: int, *, late: bool = False, size: int = 20, first: int = 0) -> list[Request]:
    """Return requests of different users, ``size`` slots each; ``late``: their deadline is over."""
    return [
        Request(
            _JSON.encode({
                "request_id": f"r-{first + i}", "user_id": f"user-{(first + i) * 7 % users}",
                "surface": "home", "n": size, "deadline_ms": 1 if late else 60_000,
                "context": {"country": COUNTRIES[i % 5], "device": "web"},
            }),
            i,
            NOW - 100 * late,
        )
        for i in range(n)
    ]  # fmt: skip


def batch(records: Sequence[Request]) -> RecordBatch:
    """Return requests as one batch."""
    return RecordBatch("rec-requests", 0, list(records))


async def world(items: int, users: int, trees: int = 120) -> tuple[ServeStage, Taker]:
    """Return the stage, and what it sends to."""
    taker, clock = Taker(), ManualClock(NOW)
    sender: Any = taker
    store = MemoryStore(clock)
    settings = Settings(part_ms=10_000, candidates_ms=10_000)  # nothing is left out on a busy machine
    stage = ServeStage(Wiring(settings, sender, sender, store, clock=clock))
    rng = np.random.default_rng(1)
    _catalogue(stage, items, rng)
    recommender = stage.recommender
    ranks = 1 / np.arange(1, ACTIVE + 1) ** 0.8
    shares = np.cumsum(ranks / ranks.sum())
    keys = hash_many([_name(i) for i in rng.permutation(items)[:ACTIVE]])
    _events(stage, keys, shares, rng)
    await _users(stage, store, keys, shares, users, rng)
    recommender.ranker = trained(20_000, trees)
    n = len(ONLINE_NAMES)
    weights = rng.standard_normal(n).astype(np.float32) / 9
    recommender.online = OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), weights, -1.0, "o1")
    while recommender.trending.behind:
        recommender.trending.refresh(NOW)
    return stage, taker


def _name(i: int) -> str:
    return f"item-{i:08d}"


def _catalogue(stage: ServeStage, n: int, rng: np.random.Generator) -> None:
    """Put items that were published in the last 30 days, most of them old.

    The hot index is settled in one merge, and has a tail: what it finds does not depend on when merges end.
    """
    catalog, hot_ms = stage.recommender.catalog, int(Settings().hot_hours * HOUR_MS)
    ages = (rng.random(n) ** 2 * 30 * 24 * HOUR_MS).astype(np.int64)
    category, creator = rng.integers(0, CATEGORIES, n), rng.integers(0, CREATORS, n)
    hot = list[tuple[Any, Any, Any]]()
    for start in range(0, n, _BLOCK):
        made = [
            Item(
                item_id=_name(i), title=f"Item number {i} of many", category=f"category-{category[i]}",
                creator_id=f"creator-{creator[i]}", tags=[f"tag-{i % 997}", f"tag-{i % 31}"],
                language="en", published_ts=int(NOW - ages[i]), duration_ms=60_000,
            )
            for i in range(start, min(start + _BLOCK, n))
        ]  # fmt: skip
        keys = catalog.put_many(made)
        published = np.array([item.published_ts for item in made], np.int64)
        young = published >= NOW - hot_ms
        hot.append((keys[young], catalog.vectors_of(keys[young]), published[young]))
    keys, vectors, published = map(np.concatenate, zip(*hot, strict=True))
    settled = max(0, len(keys) - TAIL)
    items = Columns(keys[:settled], Quantised.of(vectors[:settled]))
    index = stage.recommender.hot
    index.become(HotIndex.of(items, published[:settled], hot_ms, NOW))
    index.settle()
    index.put_many(keys[settled:], vectors[settled:], published[settled:], NOW)


def _events(stage: ServeStage, keys: Any, shares: Any, rng: np.random.Generator) -> None:
    """Count what users of the last day did with items: some items are much more popular."""
    n = 400_000
    at = np.searchsorted(shares, rng.random(n))
    events = np.zeros(n, ITEM_EVENT)
    events["item"] = keys[np.minimum(at, len(keys) - 1)]
    events["country"] = hash_many(list(COUNTRIES))[rng.integers(0, len(COUNTRIES), n)]
    events["ts"] = np.sort(NOW - (rng.random(n) ** 3 * 24 * HOUR_MS).astype(np.int64))
    kinds = np.array([KIND[k] for k in ("shown", "click", "skip", "dwell", "like")], np.uint8)
    events["kind"], events["amount"] = kinds[rng.choice(5, n, p=[0.6, 0.2, 0.1, 0.08, 0.02])], 1
    stats, trending = stage.recommender.stats, stage.recommender.trending
    for start in range(0, n, 20_000):
        part = events[start : start + 20_000]
        items, countries = stats.apply(part, np.arange(start, start + len(part)))
        trending.changed(items)
        trending.countries_changed(countries)
        trending.catch_up(NOW)


async def _users(
    stage: ServeStage, store: MemoryStore, keys: Any, shares: Any, users: int, rng: np.random.Generator
) -> None:
    """Put warm users, what they were shown, and the neighbours of what they clicked, into the store."""
    state = user_state.UserState(user_state.new_table(), Settings().session_gap_ms)
    neighbours = neighbour_state.Neighbours()
    n = users * CLICKS
    at = np.minimum(np.searchsorted(shares, rng.random(n)), len(keys) - 1)
    names = hash_many([f"user-{u}" for u in range(users)])
    nothing = np.zeros(n, np.uint64)
    events = EventColumns(
        user=np.tile(names, CLICKS), item=keys[at], kind=np.full(n, KIND["click"], np.int8),
        ts=NOW - np.linspace(900_000, 60_000, n).astype(np.int64), dwell_s=np.zeros(n, np.float32),
        country=hash_many(list(COUNTRIES))[rng.integers(0, 5, n)], offset=np.arange(n), category=nothing,
        creator=nothing, of_creator=np.zeros(n, np.bool_), age_group=np.zeros(n, np.uint8),
    )  # fmt: skip
    events.category, events.creator = stage.recommender.catalog.attributes(events.item)
    pairs = state.apply(events).pairs
    back = pairs.copy()
    back["item"], back["other"], back["seq_weight"] = pairs["other"], pairs["item"], 0
    both = np.concatenate([pairs, back])
    neighbours.apply(both, np.arange(len(both)))
    for u in range(users):
        followed = [f"creator-{k}" for k in rng.integers(0, CREATORS, 3)]
        liked = [f"category-{k}" for k in rng.integers(0, CATEGORIES, 2)]
        profile = UserProfile(
            f"user-{u}", followed_creators=followed, preferred_categories=liked, language="en"
        )
        state.profile(profile, n + u, NOW - HOUR_MS)
    shown = shown_state.ShownState()
    slots = np.full(4 * users, 20, np.int64)
    seen = keys[np.minimum(np.searchsorted(shares, rng.random(80 * users)), len(keys) - 1)]
    shown.apply(np.repeat(names, 4), slots, seen, np.full(4 * users, NOW - 300_000), np.arange(4 * users))
    for kind, table in (("u", state.table), ("s", shown.table), ("n", neighbours.table)):
        await _store(store, kind, table)


async def _store(store: MemoryStore, kind: Any, table: RowTable) -> None:
    await store.put(kind, table.pack(table.rows()))
