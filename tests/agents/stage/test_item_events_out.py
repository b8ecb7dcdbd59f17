"""Item events on their way out: what is put together is one record batch, and nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fresh_topics import make_topics
from installation import read_all
from plain_item_events import largest

from headrace.agents.partitions.source_marks import SourceMark
from headrace.agents.stage.item_events_out import ItemEventsOut, leave_alone
from headrace.models.state.item_events import combine_item_events, new_item_events
from headrace.streams.messages.columns import ITEM_EVENT, KIND, MAX_AMOUNT, PACKED
from headrace.streams.messages.packed_item_events import MOST_BYTES, pack_item_events, unpack_item_events
from headrace.streams.settings import Settings
from headrace.streams.topics.framing import frame_records
from headrace.streams.topics.names import Topics
from headrace.streams.topics.record_batch import HEADER_BYTES
from headrace.streams.topics.sender import BATCH_BYTES, BatchSender

Events = np.ndarray[Any, Any]
T = 1_700_000_000_000
LIMITS = [1024, 1500, 40_000, 300_000, BATCH_BYTES, 1_000_000]


@pytest.mark.parametrize("limit", LIMITS)
def test_what_is_put_together_is_one_batch_however_large_the_events_are(limit: int) -> None:
    most = min(limit, BATCH_BYTES)
    step = BatchSender(Settings(max_message_bytes=limit)).pieces_in_batch(MOST_BYTES, PACKED)
    ((payload, count),) = frame_records(None, *pack_item_events(largest(step)), most)
    assert count == -(-step // PACKED)
    assert most * 0.85 < HEADER_BYTES + len(payload) <= most, "it fits, and little more would fit"


def test_no_amount_put_together_is_too_large_to_be_read() -> None:
    step = BatchSender(Settings()).pieces_in_batch(MOST_BYTES, PACKED)
    events = some_events(step, items=1)
    events["kind"], events["amount"], events["ts"], events["country"] = KIND["dwell"], 86_400, T, 0
    (one,) = combine_item_events(events)
    assert one["amount"] == step * 86_400 <= MAX_AMOUNT


def some_events(n: int, items: int) -> Events:
    rng = np.random.default_rng(n)
    out = np.zeros(n, ITEM_EVENT)
    out["item"], out["country"] = rng.integers(1, items + 1, n), rng.integers(0, 3, n)
    out["ts"], out["source_seq"], out["amount"] = T + np.arange(n) * 10, np.arange(n) * 3, 1
    out["kind"], out["source_partition"] = rng.integers(0, 5, n), 3
    return out


def likes(*items: int, at: int, alone: int = 0) -> Events:
    """Return likes with the numbers from ``at`` on."""
    out = np.zeros(len(items), ITEM_EVENT)
    out["item"], out["source_seq"], out["alone"] = items, at + np.arange(len(items)), alone
    out["ts"], out["amount"], out["kind"], out["source_partition"] = T, 1, KIND["like"], 3
    return out


@pytest.mark.broker
async def test_what_was_not_sent_before_a_rebalance_counts_when_the_partition_stays(
    make_settings: Any,
) -> None:
    settings = make_settings(partitions=1)
    topic = Topics(settings).item_events
    await make_topics(settings)
    async with BatchSender(settings) as sender:
        out = ItemEventsOut(sender, topic)
        out.add([likes(7, at=0), likes(8, at=1, alone=1), likes(7, 7, at=2)])
        await out.send()
    values = [r.value for r in sorted(await read_all(settings, topic), key=lambda r: r.offset)]
    found, _, sound = unpack_item_events(values, range(len(values)))
    assert sound.all()
    new = new_item_events(found, {}, SourceMark)
    assert found["amount"][new].sum() == 4
    assert len(found) == 3, "what comes after them is still put together"


def test_only_events_before_alone_ones_of_their_source_are_left_alone() -> None:
    first, other, after = likes(1, 2, at=0), likes(1, at=0), likes(3, at=9)
    other["source_partition"] = 4
    leave_alone([first, other, likes(at=5), likes(2, at=5, alone=1), after])
    assert [events["alone"].tolist() for events in (first, other, after)] == [[1, 1], [0], [0]]


@pytest.mark.broker
@pytest.mark.parametrize("limit", [1024, 1_000_000])
async def test_everything_arrives_in_order(make_settings: Any, limit: int) -> None:
    settings = make_settings(max_message_bytes=limit, partitions=2)
    topic = Topics(settings).item_events
    await make_topics(settings)
    events = some_events(20_000 if limit > 1024 else 600, 500 if limit > 1024 else 2)
    async with BatchSender(settings) as sender:
        out = ItemEventsOut(sender, topic)
        assert not out
        out.add([events[:100], events[100:]])
        assert out
        await out.send()
        assert not out
        await out.send()  # nothing is left
    records = await read_all(settings, topic)
    for number in (0, 1):
        mine = events[events["item"] % 2 == number]
        values = [r.value for r in sorted(records, key=lambda r: r.offset) if r.partition == number]
        found, _, sound = unpack_item_events(values, range(len(values)))
        assert sound.all()
        assert len(found) < len(mine), "some were put together"
        assert (np.diff(found["source_seq"]) > 0).all()
        assert found["amount"].sum() == len(mine)
        for name in ("item", "kind", "country"):
            assert counted(found, name) == counted(mine, name)


def counted(events: Events, name: str) -> dict[int, int]:
    return {int(v): int(events["amount"][events[name] == v].sum()) for v in np.unique(events[name])}
