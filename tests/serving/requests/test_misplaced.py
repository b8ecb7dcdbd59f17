"""Requests in another partition than their key's: answered and counted, or refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from fresh_topics import make_topics
from installation import ITEMS, dead_letters, producer, publish, read_all, until, worker

from headrace.serving.requests.misplaced import QUIET_S, MisplacedRequests
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.sender import BatchSender, partition_of


class Rec(NamedTuple):
    """A record as it is read."""

    key: bytes | None
    offset: int


#: murmur2 of Kafka's Java client, with 4 partitions.
IN_0, IN_2 = b"21", b"foobar"


def refused(found: MisplacedRequests, *keys: bytes | None) -> set[int]:
    """Pass requests with these keys that were read from partition 0 of 4."""
    records = [Rec(key, 10 + n) for n, key in enumerate(keys)]
    return found.refused(records, misplaced(records, 0, 4), "rec-requests-0")


def test_where_keys_belong() -> None:
    assert [partition_of(key, 4) for key in (IN_0, IN_2)] == [0, 2]


async def test_they_are_counted_and_said_at_most_every_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    found = MisplacedRequests(refuse=False, clock=clock)
    assert refused(found, IN_0, IN_0) == set()
    assert found.count == 0
    for _ in range(5):
        assert refused(found, IN_0, IN_2, None) == set()
    await clock.advance(QUIET_S)
    refused(found, IN_2)
    assert found.count == 11
    said = [(r.action, r.count) for r in caplog.records]  # type: ignore[attr-defined]
    assert said == [("misplaced", 2), ("misplaced", 9)]
    assert "rec-requests-0" in caplog.text


def test_they_are_refused_when_the_settings_say_so() -> None:
    found = MisplacedRequests(refuse=True, clock=ManualClock())
    assert refused(found, IN_0, IN_2, None, b"") == {11, 12, 13}
    assert found.count == 3


@pytest.fixture
def two(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": 2})


async def send(
    sender: BatchSender, settings: Settings, name: str, key: bytes | None, partition: int, bulk: bool = False
) -> None:
    topics = Topics(settings)
    body = msgspec.json.encode(RecRequest(name, "user-1", "home", n=3, deadline_ms=20_000))
    to = [("reply_to", topics.replies.encode()), ("correlation_id", name.encode())]
    topic = topics.bulk_requests if bulk else topics.requests
    await (await sender.send_one(topic, body, key, partition, to))


async def replies(settings: Settings) -> dict[str, RecReply]:
    found = [msgspec.json.decode(r.value, type=RecReply) for r in await _records(settings)]
    return {reply.request_id: reply for reply in found}


async def _records(settings: Settings) -> list[Any]:
    return await read_all(settings, Topics(settings).replies)


@pytest.mark.broker
@pytest.mark.parametrize("wrong_partition", ["forward", "refuse"])
async def test_what_the_caller_gets(two: Settings, wrong_partition: str) -> None:
    settings = two.model_copy(update={"wrong_partition": wrong_partition})
    await make_topics(settings)
    right = partition_of(b"user-1", 2)
    async with producer(settings) as sender:
        await publish(sender, Topics(settings).items, [(i.item_id, i) for i in ITEMS])
        async with worker(settings, ["serve"]):
            await send(sender, settings, "right", b"user-1", right)
            await send(sender, settings, "wrong", b"user-1", 1 - right)
            await send(sender, settings, "keyless", None, right)
            await send(sender, settings, "bulk", b"user-1", 1 - right, bulk=True)
            got = await until(lambda: replies(settings), lambda found: len(found) == 4, 30)
    assert len(got["right"].items) == 3
    codes = {name: reply.error.code if reply.error else "" for name, reply in got.items()}
    refused = wrong_partition == "refuse"
    code = "wrong_partition" if refused else ""
    assert codes == {"right": "", "wrong": code, "keyless": code, "bulk": code}
    assert [len(got[name].items) for name in ("wrong", "keyless", "bulk")] == [0 if refused else 3] * 3
    letters = await dead_letters(settings)
    assert sorted((x.reason, x.key or b"") for x in letters) == (
        [("wrong_partition", b""), *[("wrong_partition", b"user-1")] * 2] if refused else []
    )
