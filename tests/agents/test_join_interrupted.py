"""The outcome join after a fetch has failed: a topic that stays quiet holds the other one up no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fresh_topics import make_topics
from join_world import click, joining, lists, user_of, write
from transport_probes import Interruption, committed_is

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

USER = user_of(0, 1)


@pytest.fixture
async def settings(make_settings: Callable[..., Settings]) -> Settings:
    made = make_settings(partitions=1, outcome_wait_ms=400)
    await make_topics(made)
    return made


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[BatchSender]:
    async with BatchSender(settings) as service:
        yield service


async def test_events_are_acknowledged_when_no_list_comes_after_a_failed_fetch(
    settings: Settings, sender: BatchSender, eventually: Callable[..., Awaitable[Any]]
) -> None:
    topics, shown = Topics(settings), lists([USER], 0, 4)
    await write(sender, topics.impressions, shown[:2])
    await write(sender, topics.events, [click(s, 0) for s in shown[:2]])
    async with joining(settings) as app:
        for topic in (topics.impressions, topics.events):
            await eventually(committed_is(settings, "learn", topic, 0, 2), 30)
        interruption = Interruption(app)
        interruption.begin()
        await eventually(interruption.over((topics.impressions, 0), (topics.events, 0)), 30)
        await write(sender, topics.events, [click(s, 0) for s in shown[2:]])  # of lists that are lost
        await eventually(committed_is(settings, "learn", topics.events, 0, 4), 30)
