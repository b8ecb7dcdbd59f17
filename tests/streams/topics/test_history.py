"""Reading a part of a partition again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fresh_topics import make_topics

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_since
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import RecordBatch

pytestmark = pytest.mark.broker


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[BatchSender]:
    await make_topics(settings)
    sender = BatchSender(settings)
    await sender.start()
    yield sender
    await sender.stop()


async def test_what_was_dated_since_then_and_stands_before_the_offset(
    settings: Settings, sender: BatchSender
) -> None:
    import time

    topic = Topics(settings).events
    t0 = int(time.time() * 1000) - 60_000
    dates = [t0, t0 + 5000, t0 + 1000, t0 + 9000, t0 + 2000, t0 + 9500]
    await sender.send_many(topic, [(b"k", b"%d" % i, ts, ()) for i, ts in enumerate(dates)], partition=1)

    async def read(since: int, before: int) -> list[int]:
        seen: list[int] = []

        def apply(batch: RecordBatch) -> None:
            seen.extend(r.offset for r in batch)

        count = await read_since(settings, topic, 1, since, before, apply)
        assert count == len(seen)
        return seen

    assert await read(t0 + 4000, 5) == [1, 2, 3, 4], "from the first of that date on"
    assert await read(t0 - 5000, 3) == [0, 1, 2]
    assert await read(t0 + 9200, 5) == [], "it stands at the offset or after it"
    assert await read(t0 + 99_000, 6) == []
