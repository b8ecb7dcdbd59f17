"""A worker whose clock is hours ahead can write what only workers write."""

from __future__ import annotations

import pytest
from aiokafka.errors import InvalidTimestampError

from headrace.streams.clock import now_ms
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker


async def test_replies_dead_letters_and_state_take_records_of_a_clock_that_is_ahead(
    topics_made: Settings, sender: BatchSender
) -> None:
    topics, later = Topics(topics_made), now_ms() + 3 * HOUR_MS
    dated = [spec.name for spec in topics.specs(topics_made) if spec.broker_dated]
    assert {topics.replies, topics.dead_letters, topics.user_state, topics.item_events} < set(dated)
    assert not {topics.events, topics.users, topics.items, topics.requests, topics.impressions} & set(dated)
    for name in dated:
        written = await sender.send_many(name, [(b"key", b"value", later, ())], partition=0)
        assert written.end == written.first + 1


async def test_public_topics_refuse_them(
    topics_made: Settings, sender: BatchSender, real_kafka: bool
) -> None:
    if not real_kafka:
        pytest.skip("the embedded broker looks at no timestamps")
    later = now_ms() + 3 * HOUR_MS
    with pytest.raises(InvalidTimestampError):
        await sender.send_many(Topics(topics_made).events, [(b"key", b"value", later, ())], partition=0)
