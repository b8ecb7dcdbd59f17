"""The smallest message limit: no record batch of ours is larger than the broker takes."""

from __future__ import annotations

import numpy as np
import pytest
from fresh_topics import make_topic, make_topics
from plain_item_events import largest

from headrace.streams.messages.columns import PACKED
from headrace.streams.messages.packed_item_events import MOST_BYTES, pack_item_events
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.names import OWN_BYTES, Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker
SMALLEST = 1024


@pytest.fixture
def settings(make_settings) -> Settings:
    # Nothing is compressed: compression would hide that a batch is too large.
    return make_settings(max_message_bytes=SMALLEST, bulk_compression="none", compression="none")


def rows_of(sizes: list[int]) -> PackedRows:
    rng = np.random.default_rng(1)
    return PackedRows.of(list(range(len(sizes))), [rng.bytes(size) for size in sizes])


@pytest.mark.parametrize("size", [1, 28, 33, 35, 100, 310, 930])
async def test_batches_of_rows_fit_with_their_headers(settings: Settings, sender: BatchSender, size: int):
    topic = settings.name("tight")
    await make_topic(settings, topic, 1, max_message_bytes=str(SMALLEST))
    written = await sender.send_rows(topic, rows_of([size] * 300), partition=0)
    assert written.end == 300


async def test_rows_of_any_size_and_item_events_are_written(settings: Settings, sender: BatchSender):
    await make_topics(settings)
    topics = Topics(settings)
    sizes = [int(size) for size in np.random.default_rng(2).integers(1, 2048, 500)]
    for topic in (topics.user_state, topics.item_features, topics.item_countries, topics.neighbours):
        assert (await sender.send_rows(topic, rows_of(sizes), partition=0)).end == 500
    step = sender.pieces_in_batch(MOST_BYTES, PACKED)
    written = await sender.send_values(topics.item_events, *pack_item_events(largest(step)), partition=0)
    assert written == (0, 1)
    for topic in (topics.models, topics.impressions, topics.examples):
        large = [(b"k", b"x" * (OWN_BYTES - 1000), None, ()), (b"k", b"small", None, ())]
        assert (await sender.send_many(topic, large, partition=0)).end == 2


async def test_public_records_up_to_the_limit_are_written(settings: Settings, sender: BatchSender):
    await make_topics(settings)
    records = [(b"k", b"x" * size, None, ()) for size in (10, 300, 400, 600, 900, 940)]
    assert (await sender.send_many(Topics(settings).events, records, partition=0)).end == len(records)
