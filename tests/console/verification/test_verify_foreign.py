"""`headrace verify` where lists are answered by events in every form: features, pairs, labels, weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_forms import KINDS, Forms, wire
from fresh_topics import make_topics
from installation import dead_letters, producer, publish, read_all, until, worker
from oracle_examples import encode, event, impression
from project import ROOT
from schema_registry import running

from headrace.console.forgotten.job import look
from headrace.console.verification.run import verify
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Event, Item
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import OutRecord

pytestmark = pytest.mark.broker

USERS, ITEMS, LISTS = 6, 12, 60
#: The time between two lists, ms.
STEP = 60_000


def history(began: int, forms: Forms) -> tuple[list[OutRecord], list[OutRecord], list[Event]]:
    """Return lists of five items, what users did with them, one form after the other, and these events."""
    rng = np.random.default_rng(5)
    shown: list[OutRecord] = []
    did: list[OutRecord] = []
    told: list[Event] = []
    for i in range(LISTS):
        user, at = f"user-{i % USERS}", began + i * STEP
        items = [f"item-{k}" for k in rng.choice(ITEMS, 5, replace=False)]
        shown.append((user.encode(), encode(impression(f"r{i}", items, at, user=user)), at, []))
        for k, kind in enumerate(("click", "like", "click")[: 1 + i % 3]):
            one = event(kind, items[k], at + 1000 * (k + 1), request=f"r{i}", user=user)
            _, value, headers = forms.write(KINDS[len(did) % len(KINDS)], one)
            did.append((user.encode(), value, one.ts + 10, headers))
            told.append(one)
    return shown, did, told


async def test_what_was_shown_is_labelled_by_events_in_every_form(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record has a schema that nobody has: workers refuse it, and it does not stop the verification."""
    monkeypatch.setattr("headrace.streams.messages.formats.schemas.PATIENCE_S", 0.5)
    with running() as registry:
        s = settings.model_copy(
            update={
                "partitions": 2, "data_dir": tmp_path, "durable_every_ms": 100, "publish_every_s": 0.2,
                "seen_below": 0, "events_format": "detect", "registry_url": registry.url,
                "events_mapping": str(ROOT / "ops" / "mappings" / "segment.toml"),
            }
        )  # fmt: skip
        began, topics = now_ms() - 2 * HOUR_MS, Topics(s)
        shown, did, told = history(began, Forms(registry))
        await make_topics(s)
        async with producer(s) as sender:
            await publish(
                sender, topics.items, [(f"item-{n}", Item(f"item-{n}", began)) for n in range(ITEMS)]
            )
            await sender.send_keyed(topics.impressions, shown)
            await sender.send_keyed(topics.events, [*did, (b"garbage", wire(999, b"x"), None, [])])
            async with worker(s, ["ingest", "aggregate", "learn"]):
                result = await until(lambda: verify(s), lambda r: r.exit_code == 0, timeout=40)
            assert result.first == []
            letters = await until(lambda: dead_letters(s), bool)
            assert [(one.key, one.reason) for one in letters] == [(b"garbage", "unknown_schema")]
            assert result.compared["labels of examples"] == 5 * LISTS
            assert result.compared["shown slots that the online model has learnt"] >= 1
            examples = [record.value for record in await read_all(s, topics.examples)]
            clicks = sum(one.type == "click" for one in told)
            assert sum(b'"clicked":true' in value for value in examples) == clicks
            # A record of theirs that nobody has sent on yet is found by the user in it.
            value = Forms(registry).segment(event("click", "item-1", now_ms(), request="", user="other"))[1]
            await sender.send_many(topics.events, [(b"their-key", value, None, [])], partition=0)
        left = await look(s, "other")
        assert left.until[topics.events]["records"] == 1
        assert (await look(s, "user-1")).until[topics.events]["records"] == sum(
            one.user_id == "user-1" for one in told
        )
