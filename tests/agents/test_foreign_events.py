"""Events of ours and of others in one topic: every agent counts each once, and `headrace verify` agrees."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_forms import KINDS, SEGMENT, Forms
from fresh_topics import make_topics
from installation import dead_letters, producer, publish, read_all, until, worker
from project import ROOT
from schema_registry import running

from headrace.console.verification.run import verify
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Event, Item
from headrace.streams.settings import MINUTE_MS, Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import origin_of

pytestmark = pytest.mark.broker

USERS, ITEMS, EVENTS = 12, 8, 240


def events(seed: int) -> list[tuple[str, Event]]:
    """Return events in all forms; of each form some are retries, and one is too late."""
    rng, now, out = np.random.default_rng(seed), now_ms(), list[tuple[str, Event]]()
    for n in range(EVENTS):
        kind = list(SEGMENT)[int(rng.integers(len(SEGMENT)))]
        late = 61 * MINUTE_MS if n < len(KINDS) else int(rng.integers(0, 30 * MINUTE_MS))
        event = Event(
            f"e-{n}",
            kind,  # type: ignore[arg-type]
            f"user-{int(rng.integers(USERS))}",
            f"item-{int(rng.integers(ITEMS))}",
            now - late,
            dwell_ms=int(rng.integers(9000)) if kind == "dwell" else None,
            context=Context(country="BR"),
        )
        out.append((KINDS[n % len(KINDS)], event))
    return out


async def equal(settings: Settings) -> Any:
    """Verify until nothing differs; the workers may still have work."""
    return await until(lambda: verify(settings), lambda result: result.exit_code == 0, timeout=40)


async def test_every_form_counts_once_in_every_role(settings: Settings, tmp_path: Path) -> None:
    with running() as registry:
        s = settings.model_copy(
            update={
                "partitions": 2, "data_dir": tmp_path, "durable_every_ms": 100, "outcome_wait_ms": 500,
                "events_format": "detect", "registry_url": registry.url,
                "events_mapping": str(ROOT / "ops" / "mappings" / "segment.toml"),
            }
        )  # fmt: skip
        await make_topics(s)
        topics, forms, told = Topics(s), Forms(registry), events(7)
        bad = [
            (b"k-1", b'{"type": "track", "event": "Product Clicked", "messageId": "m"}', [("trace", b"1")]),
            (b"k-2", b"\0\0\0\0\x01no avro", []),
            (
                b"k-3",
                b'{"specversion": "1.0", "id": "1"}',
                [("content-type", b"application/cloudevents+json")],
            ),
            (b"k-4", b"{", []),
        ]
        pages = [(b"k", b'{"type": "page", "messageId": "p", "userId": "user-1"}', [])] * 9
        written = [forms.write(kind, event) for kind, event in told]
        again = [forms.write(kind, event) for kind, event in told[60:90]]
        async with producer(s) as sender:
            await publish(
                sender, topics.items, [(f"item-{i}", Item(f"item-{i}", now_ms())) for i in range(8)]
            )
            for n, (key, value, headers) in enumerate([*written, *again, *bad, *pages]):
                await sender.send_many(topics.events, [(key, value, None, headers)], partition=n % 2)
            async with worker(s, ["ingest", "aggregate", "learn"]):
                result = await equal(s)
                letters = await until(lambda: dead_letters(s), lambda found: len(found) >= len(KINDS) + 4)
    assert result.first == []
    clicks = Counter(event.user_id for _, event in told[len(KINDS) :] if event.type == "click")
    assert {user: await clicks_of(s, user) for user in clicks} == clicks
    assert (result.duplicates, result.users) == (len(again), USERS)
    by_reason = {letter.key: letter for letter in letters if letter.reason != "too_late"}
    assert {key: (by_reason[key].reason, by_reason[key].value) for key, _, _ in bad} == {
        b"k-1": ("unmapped", bad[0][1]),
        b"k-2": ("undecodable", bad[1][1]),
        b"k-3": ("missing_field", bad[2][1]),
        b"k-4": ("undecodable", bad[3][1]),
    }
    assert by_reason[b"k-1"].headers == (("trace", b"1"),)
    assert len(letters) == len(by_reason) + len(KINDS)
    assert any(origin_of(record) for record in await read_all(s, topics.events))


async def clicks_of(settings: Settings, user: str) -> int:
    store = RedisStore(settings)
    try:
        (row,) = await store.get("u", [hash64(user)])
    finally:
        await store.close()
    return 0 if row is None else int(unpack([row], user_state.ROW)[0][0]["n_clicks"])


async def test_events_wait_for_the_registry_and_its_schemas_stay(settings: Settings, tmp_path: Path) -> None:
    """It is away when the worker starts; later it is away for good, and a new worker needs it no more."""
    user, count = "user-1", 5

    def click(n: int) -> Event:
        return Event(f"e-{n}", "click", user, "item-1", now_ms())

    with running() as registry:
        forms = Forms(registry)
        s = settings.model_copy(
            update={"data_dir": tmp_path, "events_format": "detect", "registry_url": registry.url}
        )
        registry.broken = 503
        await make_topics(s)
        topics = Topics(s)
        async with producer(s) as sender:
            for n in range(count):
                key, value, headers = forms.write("protobuf" if n % 2 else "avro", click(n))
                await sender.send_keyed(topics.events, [(key, value, None, headers)])
            async with worker(s, ["ingest"]):
                await until(lambda: asyncio.sleep(0, len(registry.asked)), lambda asked: asked > 2)
                assert await clicks_of(s, user) == 0
                registry.broken = 0
                await until(lambda: clicks_of(s, user), lambda clicks: clicks == count)
            registry.stop()
            async with worker(s, ["ingest"]):
                for n in range(count, 2 * count):
                    await sender.send_keyed(topics.events, [(*forms.avro(click(n))[:2], None, [])])
                await until(lambda: clicks_of(s, user), lambda clicks: clicks == 2 * count)
        assert await dead_letters(s) == []


async def test_a_wrong_mapping_file_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    table = (ROOT / "ops" / "mappings" / "segment.toml").read_text()
    file.write_text(table.replace('"$.properties.product_id"', '"$.properties.id"'))
    s = settings.model_copy(update={"data_dir": tmp_path, "events_mapping": str(file)})
    await make_topics(s)
    with pytest.raises(ConfigError, match=r"HEADRACE_EVENTS_MAPPING: .*m\.toml: example 1"):
        async with worker(s, ["ingest"]):
            pass
