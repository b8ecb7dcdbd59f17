"""A worker that never committed comes back with its state: the group commits, without a new record."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from counting_stage import CountWorker, produce
from transport_probes import committed_is
from transport_worker import committed

from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


async def test_what_a_state_has_is_committed_when_the_group_has_committed_nothing(topics_made, eventually):
    settings, topic = topics_made, Topics(topics_made).events

    async def refuse(_offsets: Any) -> bool:
        return False

    async with CountWorker(settings) as worker:
        worker.app.consumer._thread._commit = refuse
        sent: Counter[int] = await produce(settings, topic, [1, 1, 1, 5])
        await eventually(lambda: worker.counts() == sent, 20)
        await eventually(worker.durable)
    assert max((await committed(settings, "count", topic)).values(), default=-1) < 0
    async with CountWorker(settings) as worker:
        await eventually(committed_is(settings, "count", topic, 1, 4))
        assert worker.counts() == sent
        assert worker.stage.seen == [], "nothing is read again"
