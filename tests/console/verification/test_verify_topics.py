"""`headrace verify` over real topics: rows equal the batch computation, and a changed row is found."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from installation import worker

from headrace.console.verification.live_rows import latest_rows
from headrace.console.verification.result import VerifyResult
from headrace.console.verification.run import verify
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Event, Impression, Item, UserProfile
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS, Settings
from headrace.streams.tables.rows import PackedRows, unpack
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

USERS, ITEMS, EVENTS = 40, 30, 2000
KINDS = ("click", "click", "click", "skip", "dwell", "like", "save", "follow", "hide")
encode = msgspec.json.encode


class History:
    """Two hours of random events: some are retries, late, too early, with a wrong key, or garbage."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.began = now_ms() - 2 * HOUR_MS
        self.bad = 0
        self.duplicates = 0
        self._sent: list[tuple[bytes, bytes]] = []

    def events(self, n: int) -> list[Any]:
        out = []
        for i in range(n):
            at = self.began + i * 2 * HOUR_MS // n
            key, value = self._event(i, at)
            out.append((key, value, at, []))
        return out

    def _event(self, i: int, at: int) -> tuple[bytes, bytes]:
        rng, chance = self.rng, self.rng.random()
        if chance < 0.1 and len(self._sent) > 50:  # sent again: soon after, so inside the window
            self.duplicates += 1
            return self._sent[-int(rng.integers(1, 50))]
        user = f"user-{min(int(rng.exponential(8)), USERS - 1)}"
        kind = KINDS[int(rng.integers(len(KINDS)))]
        late = int(rng.integers(-2 * MINUTE_MS, 50 * MINUTE_MS))
        key = user.encode()
        dwell = int(rng.integers(100_000)) if kind == "dwell" else None
        if chance > 0.98:
            self.bad += 1
            fault = i % 5
            late = (late, 61 * MINUTE_MS, -6 * MINUTE_MS, late, late)[fault]
            key = b"somebody else" if fault == 0 else key
            if fault == 3:
                return key, b'{"event_id": "broken'
            if fault == 4:
                kind, dwell = "dwell", None
        event = Event(
            f"event-{i}",
            kind,  # type: ignore[arg-type]
            user,
            f"item-{int(rng.integers(ITEMS))}",
            at - late,
            dwell_ms=dwell,
            context=Context(country=("", "BR", "NL")[int(rng.integers(3))]),
        )
        if chance <= 0.98:
            self._sent.append((key, encode(event)))
        return key, encode(event)

    def impressions(self, n: int) -> list[Any]:
        out = []
        for i in range(n):
            user, at = f"user-{int(self.rng.integers(USERS))}", self.began + i * 2 * HOUR_MS // n
            items = [f"item-{k}" for k in self.rng.choice(ITEMS, int(self.rng.integers(8)), replace=False)]
            shown = Impression(
                f"r{i}", user, "home", at, "BR", "tv", "", "", "", items, [1.0], [False], [0.0], b"", []
            )
            out.append((user.encode(), encode(shown), at, []))
        return out

    def catalog(self) -> list[Any]:
        out = []
        for i in range(ITEMS):
            item = Item(f"item-{i}", self.began, category=f"category-{i % 9}", creator_id=f"creator-{i % 10}")
            out.append((item.item_id.encode(), encode(item), self.began - DAY_MS, []))
        return out


async def until_equal(settings: Settings, timeout: float = 30) -> VerifyResult:
    """Verify repeatedly until nothing differs; the workers may still have work."""
    deadline = time.monotonic() + timeout
    while True:
        result = await verify(settings)
        if result.exit_code == 0 or time.monotonic() > deadline:
            return result
        await asyncio.sleep(0.5)


@pytest.fixture
async def installation(
    settings: Settings, tmp_path: Path
) -> AsyncIterator[tuple[Settings, History, BatchSender]]:
    """An installation with a history in its topics, not processed yet."""
    s = settings.model_copy(update={"partitions": 2, "data_dir": tmp_path, "durable_every_ms": 100})
    topics, history, sender = Topics(s), History(7), BatchSender(s)
    await create_topics(s)
    await sender.start()
    await sender.send_keyed(topics.items, history.catalog())
    await sender.send_keyed(topics.users, [(b"user-1", encode(UserProfile("user-1", "BR")), None, [])])
    await sender.send_keyed(topics.events, history.events(EVENTS))
    await sender.send_keyed(topics.impressions, history.impressions(200))
    yield s, history, sender
    await sender.stop()


async def test_rows_are_what_a_batch_job_computes_and_a_changed_one_is_named(
    installation: tuple[Settings, History, BatchSender], tmp_path: Path
) -> None:
    settings, history, sender = installation
    topics = Topics(settings)
    async with worker(settings, ["ingest", "aggregate"]):
        result = await until_equal(settings)
    assert result.first == []
    assert result.exit_code == 0
    assert (result.events, result.duplicates, result.rejected) == (EVENTS, history.duplicates, history.bad)
    assert result.duplicates > 100
    assert set(result.rejected_by) == {
        "too_late", "from_the_future", "wrong_key", "undecodable", "missing_field"
    }  # fmt: skip
    assert result.impressions == 200
    assert (result.users, result.items) == (USERS, ITEMS)
    assert result.countries == 2 * ITEMS
    assert result.redis_rows == USERS + result.shown_rows + 2 * ITEMS
    assert 0 < result.shown_rows <= USERS
    assert (result.compared["profiles"], result.compared["neighbour rows"]) == (1, ITEMS)
    assert result.compared["event ids in dedup windows"] > 50
    assert result.values_compared > (USERS * 9 + ITEMS * 5) * 5 * len(result.at) / 2
    assert result.not_compared == 0

    await tamper(settings, sender, topics.user_state, "user-3", user_state.ROW, "totals", 1)
    result = await verify(settings)
    assert result.exit_code == 1
    assert [(d["row"], d["feature"]) for d in result.first] == [
        ("user user-3", "total click"),
        ("user user-3", "row in Redis"),
    ]
    assert result.first[0]["found"] == result.first[0]["expected"] + 1
    assert (await verify(settings, redis=False)).differences == 1

    await tamper(settings, sender, topics.item_features, "item-5", item_state.ROW, "first_ts", None)
    code, out, figures = await command(settings, tmp_path / "verify.json")
    assert code == 1
    assert "user user-3" in out
    assert "item item-5" in out
    assert "first event" in out
    assert (figures["differences"], figures["rows_that_differ"], figures["events"]) == (4, 2, EVENTS)
    assert {"users", "items", "countries", "values_compared", "duplicates", "rejected", "first", "seconds",
            "not_compared", "forgotten"} <= figures.keys()  # fmt: skip


async def tamper(
    settings: Settings, sender: BatchSender, topic: str, name: str, dtype: Any, field: str, index: int | None
) -> None:
    """Add one to a value in the latest changelog row of a user."""
    key = hash64(name)
    for partition in range(settings.partitions):
        latest = await latest_rows(settings, topic, partition, dtype, ("offset",))
        if key in latest.rows:
            row = unpack([latest.rows[key]], dtype)[0]
            if index is None:
                row[field] += 1
            else:
                row[field][0, index] += 1
            record = (key.to_bytes(8, "little"), row.tobytes(), None, [])
            await sender.send_many(topic, [record], partition=partition)
            return
    raise AssertionError(f"no row of {name}")


async def command(settings: Settings, path: Path) -> tuple[int, str, dict[str, Any]]:
    """Run the command line; return its exit code, output, and JSON."""
    names = ("brokers", "redis_url", "topic_prefix", "partitions")
    env = {f"HEADRACE_{n.upper()}": str(getattr(settings, n)) for n in names}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace", "verify", "--json", str(path)),
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), json.loads(path.read_text("utf-8"))


async def test_forgotten_users_are_compared(installation: tuple[Settings, History, BatchSender]) -> None:
    settings, _, sender = installation
    async with worker(settings, ["ingest", "aggregate"]):
        assert (await until_equal(settings)).exit_code == 0
        await sender.send_keyed(Topics(settings).users, [(b"user-2", None, None, [])])
        store = RedisStore(settings)
        deadline = time.monotonic() + 10
        while (await store.get("u", [hash64("user-2")]))[0] is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        result = await until_equal(settings)
    assert (result.exit_code, result.users, result.forgotten) == (0, USERS, 1)
    assert result.compared["guard rows of forgotten users"] == 1
    # Their row must not come back to the store.
    await store.put("u", PackedRows.of([hash64("user-2")], [bytes(user_state.ROW.itemsize)]))
    await store.close()
    result = await verify(settings)
    assert [(d["row"], d["feature"]) for d in result.first] == [("user user-2", "row in Redis")]


async def test_unprocessed_records_differ_and_the_note_says_why(
    installation: tuple[Settings, History, BatchSender],
) -> None:
    settings, _, sender = installation
    result = await verify(settings, first=3)
    assert result.exit_code == 1
    assert len(result.first) == 3
    async with worker(settings, ["ingest", "aggregate"]):
        assert (await until_equal(settings)).exit_code == 0
    now = now_ms()
    late = Event("another", "click", "user-1", "item-1", now)
    await sender.send_keyed(Topics(settings).events, [(b"user-1", encode(late), now, [])])
    result = await verify(settings, first=100)
    assert result.exit_code == 1
    assert {d["row"] for d in result.first} >= {"user user-1", "item item-1"}
    assert any("1 records are not processed yet (ingest on" in note for note in result.notes), result.notes


async def test_what_cannot_be_told(settings: Settings) -> None:
    with pytest.raises(UnavailableError, match="does not exist"):
        await verify(settings)
    await create_topics(settings)
    assert (await verify(settings)).exit_code == 2, "there is nothing to compare"
    sender = BatchSender(settings)
    await sender.start()
    await sender.send_keyed(Topics(settings).users, [(b"somebody", None, None, [])])
    await sender.stop()
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with pytest.raises(UnavailableError, match="Redis"):
        await verify(away)
    result = await verify(away, redis=False)
    assert [(d["row"], d["feature"]) for d in result.first] == [("user somebody", "guard row")]
