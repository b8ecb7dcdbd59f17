"""`headrace producers`: counted from the broker alone, and shown."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from command_line import run_headrace
from fresh_topics import make_topics
from rich.console import Console

from headrace.console import producers
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import FORWARDED, Topics
from headrace.streams.topics.partitioners import crc32_partition, right_partition
from headrace.streams.topics.producers import Placement, placements
from headrace.streams.topics.sender import BatchSender

USERS = [b"user-%d" % n for n in range(200)]
WRONG = [user for user in USERS if crc32_partition(user, 4) != right_partition(user, 4)]


async def written(settings: Settings, sender: BatchSender) -> None:
    """200 events by librdkafka, 200 profiles by murmur2, 3 requests without a key, 5 items sent on."""
    await make_topics(settings)
    topics = Topics(settings)
    for partition in range(4):
        ours = [(user, b"{}", None, ()) for user in USERS if crc32_partition(user, 4) == partition]
        await sender.send_many(topics.events, ours, partition=partition)
    await sender.send_keyed(
        topics.users, [(user, None if n % 2 else b"{}", None, ()) for n, user in enumerate(USERS)]
    )
    await sender.send_many(topics.requests, [(None, b"{}", None, ())] * 3, partition=1)
    sent_on = [(FORWARDED, b"items/0/7")]
    await sender.send_keyed(topics.items, [(b"item-%d" % n, b"{}", None, sent_on) for n in range(5)])


@pytest.mark.broker
async def test_records_are_counted_by_where_they_are(settings: Settings, sender: BatchSender) -> None:
    await written(settings, sender)
    found = {place.topic.removeprefix(settings.topic_prefix): place for place in await placements(settings)}
    assert list(found) == ["events", "items", "users", "rec-requests"]
    counts = {n: (p.records, p.right, p.wrong, p.keyless, p.forwarded) for n, p in found.items()}
    assert counts == {
        "events": (200, 200 - len(WRONG), len(WRONG), 0, 0),
        "items": (5, 0, 0, 0, 5),
        "users": (200, 200, 0, 0, 0),
        "rec-requests": (3, 0, 0, 3, 0),
    }
    assert all(place.complete for place in found.values())
    assert found["events"].guess().client.startswith("librdkafka")
    few = await placements(settings, newest=40)
    assert 30 <= few[0].records <= 40, "the newest of every partition"


@pytest.mark.broker
async def test_the_time_is_bounded(settings: Settings, sender: BatchSender) -> None:
    await written(settings, sender)
    found = {place.topic: place for place in await placements(settings, seconds=0.0)}
    assert not found[Topics(settings).events].complete
    assert any("the time was up" in line for line in producers.remarks(list(found.values())))


@pytest.mark.broker
def test_the_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def make() -> None:
        sender = BatchSender(settings)
        await sender.start()
        await written(settings, sender)
        await sender.stop()

    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("HEADRACE_BROKERS", settings.brokers)
    assert run_headrace(monkeypatch, "producers") == 1, "there are no topics"
    assert "headrace topics create" in capsys.readouterr().out
    asyncio.run(make())
    path = tmp_path / "producers.json"
    assert run_headrace(monkeypatch, "producers", "--json", str(path)) == 1
    out = capsys.readouterr().out
    events = Topics(settings).events
    assert re.search(rf"{events} +200 +{200 - len(WRONG)} +{len(WRONG)} +0 +0", out)
    assert f"{events}: {len(WRONG)} records in wrong partitions: librdkafka (confluent-kafka, kcat" in out
    row = json.loads(path.read_text())["topics"][0]
    assert {n: row[n] for n in ("topic", "wrong", "wrong_keys", "complete")} == {
        "topic": events, "wrong": len(WRONG), "wrong_keys": len(WRONG), "complete": True
    }  # fmt: skip
    assert row["client"].startswith("librdkafka")
    assert row["agreement"][row["client"]] == 1.0


def test_the_exit_code_and_what_is_said() -> None:
    good = Placement("events", 4, records=10, right=8, forwarded=2)
    assert producers.remarks([good]) == []
    few = Placement("events", 4, records=3, wrong=3, places={(b"a", 1)})
    assert producers.remarks([few]) == [
        "events: 3 records in wrong partitions: the client cannot be told from the keys"
    ]
    out = Console(width=100)
    with out.capture() as text:
        out.print(producers.table([good, few]))
    assert re.search(r"events +10 +8 +0 +0 +2", text.get())


async def test_no_broker() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await placements(Settings(brokers="127.0.0.1:1"))
