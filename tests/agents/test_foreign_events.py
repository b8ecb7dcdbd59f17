"""Events of ours and of others in one topic: every agent counts each once, and `headrace verify` agrees."""

from __future__ import annotations

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
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Context, Event, Item
from headrace.streams.settings import MINUTE_MS, Settings
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
                "events_mapping": str(ROOT / "docs" / "mappings" / "segment.toml"),
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
