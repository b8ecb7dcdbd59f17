"""A topic made again is read from its beginning by a group without state: the commit has the place."""

from __future__ import annotations

import pytest
from counting_stage import delete_topic, make_again, produce
from transport_probes import committed_is, quick_app

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=5)


async def test_the_new_topic_is_read_from_its_beginning_with_numbers_that_go_on(
    topics_made, running, eventually
):
    settings, topic = topics_made, Topics(topics_made).events
    got: list[tuple[int, int]] = []

    def attach(app) -> None:
        @app.agent(batch_topic(app, topic))
        async def collect(stream):
            async for batch in durable(stream):
                got.extend((record.offset, record.offset + batch.base) for record in batch)

    for round_ in range(3):  # every log is longer than the one before
        got.clear()
        await produce(settings, topic, [0] * (10 + round_))
        app = quick_app(settings, "collect")
        attach(app)
        async with running(app):
            await eventually(lambda round_=round_: len(got) == 10 + round_)
            await eventually(committed_is(settings, "collect", topic, 0, 10 + round_))
        assert [offset for offset, _ in got] == list(range(10 + round_))
        numbers = [number for _, number in got]
        assert numbers == list(range(numbers[0], numbers[0] + 10 + round_))
        await delete_topic(settings, topic)
        await make_again(settings, topic)
