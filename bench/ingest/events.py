"""The events of the benchmark: a seeded mix, or recorded clicks; and writing them into topics beforehand.

All systems read the same bytes with the same keys, timestamps and order within a partition.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from headrace.demo.replay import FirstClicks, Timeline, encode_events, encode_items, source, span
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import HOUR_MS, MINUTE_MS, Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.sender import partition_of

#: Share of each event type.
SHARES = {
    "click": 0.45, "skip": 0.25, "dwell": 0.22, "like": 0.05, "save": 0.015, "follow": 0.01, "hide": 0.005,
}  # fmt: skip
#: What Kafka's own producer batches by default (batch.size): producers of events are many and small.
BATCH_BYTES = 16_384
COUNTRIES = (
    "DE", "FR", "GB", "US", "BR", "IN", "JP", "ES", "IT", "NL",
    "PL", "SE", "NO", "MX", "AR", "CA", "AU", "KR", "TR", "ZA",
)  # fmt: skip
DEVICES, SURFACES = ("phone", "desktop", "tablet"), ("home", "related", "digest")
CREATORS = 2000
CATEGORIES = 40

#: key, value, record timestamp (ms).
Record = tuple[bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class Mix:
    """Size and habits of the audience; the same mix, time and number of events give the same records."""

    users: int = 200_000
    active: int = 50_000  # of the users, those seen in these events
    items: int = 20_000
    span_ms: int = 30 * MINUTE_MS  # of the records' timestamps
    retries: float = 0.01  # records that repeat one of a moment before, byte for byte
    straggling: float = 0.01  # records that come up to ten minutes after their event
    seed: int = 7


def falling(n: int, power: float) -> np.ndarray:
    """Return probabilities that fall like 1 / (rank + 10) ** power."""
    weights = 1 / (np.arange(n) + 10.0) ** power
    return weights / weights.sum()


def mixed(count: int, mix: Mix, now_ms: int) -> list[Record]:
    """Return ``count`` records of about 190 bytes, the newest dated ``now_ms``, in order of their dates."""
    rng = np.random.default_rng(mix.seed)
    kinds = list(SHARES)
    kind = rng.choice(len(kinds), count, p=list(SHARES.values()))
    people = rng.permutation(mix.users)[: mix.active]
    user = people[rng.choice(len(people), count, p=falling(len(people), 0.8))]
    item = rng.choice(mix.items, count, p=falling(mix.items, 1.0))
    country = rng.choice(len(COUNTRIES), mix.users, p=falling(len(COUNTRIES), 1.0))
    device = rng.choice(3, mix.users, p=(0.65, 0.3, 0.05))
    position = np.minimum(rng.geometric(0.15, count) - 1, 40)
    surface = rng.choice(3, count, p=(0.8, 0.15, 0.05))
    dwell = np.minimum(rng.lognormal(9.8, 1.0, count), 600_000).astype(np.int64)
    sent = now_ms - mix.span_ms + np.arange(count) * mix.span_ms // max(count, 1)
    delay = rng.exponential(400, count)
    delay = np.where(rng.random(count) < mix.straggling, rng.uniform(0, 10 * MINUTE_MS, count), delay)
    ts = sent - delay.astype(np.int64)
    request = rng.integers(0, 1 << 40, count)
    again = np.flatnonzero(rng.random(count) < mix.retries)
    before = np.maximum(again - rng.geometric(1 / 200, len(again)), 0)

    out: list[Record] = []
    columns = (kind, user, item, ts, dwell, request, position, surface, sent)
    for n, (k, u, i, t, d, r, p, s, at) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        told = f'"dwell_ms":{d},' if kinds[k] == "dwell" else ""
        body = (
            f'{{"event_id":"{mix.seed:02x}{n:014x}","type":"{kinds[k]}","user_id":"user-{u:07d}",'
            f'"item_id":"item-{i:06d}","ts":{t},{told}"request_id":"{r:010x}","position":{p},'
            f'"surface":"{SURFACES[s]}","context":{{"country":"{COUNTRIES[country[u]]}",'
            f'"device":"{DEVICES[device[u]]}"}}}}'
        )
        out.append((b"user-%07d" % u, body.encode(), at))
    for n, earlier in zip(again.tolist(), before.tolist(), strict=True):
        key, value, _ = out[earlier]
        out[n] = (key, value, out[n][2])
    return out


def catalogue(mix: Mix, now_ms: int) -> list[Record]:
    """Return the `items` records behind ``mixed``: category, creator, tags."""
    rng = np.random.default_rng(mix.seed + 1)
    category = rng.integers(0, CATEGORIES, mix.items)
    creator = rng.choice(CREATORS, mix.items, p=falling(CREATORS, 0.8))
    age = rng.integers(0, 48 * HOUR_MS, mix.items)
    out: list[Record] = []
    for n in range(mix.items):
        item = Item(
            item_id=f"item-{n:06d}",
            published_ts=now_ms - int(age[n]),
            title=f"An item about topic {category[n]} made by creator {creator[n]}",
            category=f"category-{category[n]}",
            tags=[f"tag-{t}" for t in rng.integers(0, 300, 3).tolist()],
            creator_id=f"creator-{creator[n]:04d}",
            language="en",
        )
        out.append((item.item_id.encode(), msgspec.json.encode(item), now_ms))
    return out


def recorded(path: Path, count: int, now_ms: int) -> tuple[list[Record], list[Record]]:
    """Return events and items of a Globo file of clicks, moved to the present."""
    timeline = Timeline(*span(source(path, "globo", count)), now_ms, 0.0)
    events = [timeline.moved(e) for e in itertools.islice(source(path, "globo", count), count)]
    items = FirstClicks()(events)

    def plain(records: list) -> list[Record]:
        return [(key, value, ts) for key, value, ts, _ in records]

    return plain(encode_events(events)), plain(encode_items(items))


def describe(events: list[Record]) -> dict[str, object]:
    """Return what is in the events: share of each type, distinct users and items, sizes, retries."""

    class Seen(msgspec.Struct):
        event_id: str
        type: str
        item_id: str

    seen = [msgspec.json.decode(value, type=Seen) for _, value, _ in events]
    types = Counter(s.type for s in seen)
    return {
        "events": len(events),
        "shares": {kind: round(n / len(events), 4) for kind, n in types.most_common()},
        "users": len({key for key, _, _ in events}),
        "items": len({s.item_id for s in seen}),
        "mean_bytes": round(sum(len(value) for _, value, _ in events) / len(events)),
        "retries": len(seen) - len({s.event_id for s in seen}),
        "event_minutes": round((events[-1][2] - events[0][2]) / MINUTE_MS, 1),
    }


def newcomers(events: list[Record], share: float = 0.02) -> tuple[set[bytes], set[bytes]]:
    """Return the users and the items met for the first time among the last ``share`` of the events.

    Only events that items count are used: a follow and a hide do not change an item.
    """

    class Seen(msgspec.Struct):
        item_id: str
        type: str

    start = round(len(events) * (1 - share))
    found: tuple[dict[bytes, int], dict[bytes, int]] = {}, {}
    for n, (user, value, _) in enumerate(events):
        found[0].setdefault(user, n)
        event = msgspec.json.decode(value, type=Seen)
        if event.type not in ("follow", "hide"):
            found[1].setdefault(event.item_id.encode(), n)
    users, items = ({name for name, n in first.items() if n >= start} for first in found)
    return users, items


VIRAL = b"item-000000"
_ITEM = re.compile(rb'"item_id":"[^"]*"')


def viral(records: list[Record]) -> list[Record]:
    """Return the records with every second event on one item. A retry stays a retry of its event."""
    told = b'"item_id":"' + VIRAL + b'"'
    out: list[Record] = []
    for key, value, ts in records:
        event_id = value[13:29]  # {"event_id":"...
        out.append((key, _ITEM.sub(told, value, count=1) if int(event_id, 16) % 2 else value, ts))
    return out


def clicks_on(records: list[Record], item: bytes) -> int:
    """Return the number of different clicks on an item."""
    told = b'"item_id":"' + item + b'"'
    return len({value[13:29] for _, value, _ in records if told in value and b'"type":"click"' in value})


async def fill(
    settings: Settings, topic: str, records: list[Record], partitions: int, misplaced: int = 0
) -> dict[int, int]:
    """Write records to the partitions of their keys, in batches of ``BATCH_BYTES``; return the end offsets
    by partition. With ``misplaced``, every so-manieth record is written to the next partition."""
    parts: dict[int, list[Record]] = {p: [] for p in range(partitions)}
    for n, record in enumerate(records):
        wrong = bool(misplaced and n % misplaced == 0)
        parts[(partition_of(record[0], partitions) + wrong) % partitions].append(record)
    producer = AIOKafkaProducer(
        **connection(settings),
        enable_idempotence=True,
        compression_type=None if settings.compression == "none" else settings.compression,
        max_batch_size=BATCH_BYTES,
    )
    await producer.start()
    try:
        ends = await asyncio.gather(*(_write(producer, topic, p, r) for p, r in parts.items()))
    finally:
        await producer.stop()
    return dict(zip(parts, ends, strict=True))


async def _write(producer: AIOKafkaProducer, topic: str, partition: int, records: list[Record]) -> int:
    sent: list[asyncio.Future] = []
    builder = producer.create_batch()
    for key, value, ts in records:
        while builder.append(key=key, value=value, timestamp=ts) is None:
            builder.close()
            sent.append(await producer.send_batch(builder, topic, partition=partition))
            builder = producer.create_batch()
    if builder.record_count():
        builder.close()
        sent.append(await producer.send_batch(builder, topic, partition=partition))
    await asyncio.gather(*sent)
    return len(records)


def chunks(records: list[Record], size: int) -> Iterator[list[Record]]:
    """Cut into lists of at most ``size``."""
    for start in range(0, len(records), size):
        yield records[start : start + size]
