"""Look-ups in compacted topics: the last record of a key, names behind hashes, within bounds."""

from __future__ import annotations

import asyncio

import pytest
from installation import ITEMS, publish

from headrace.agents.stage.topic_lookup import MOST_WAITING, TopicLookup
from headrace.serving.gateway.kept import Named, Names
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker


async def test_the_last_record_of_a_key_counts(topics_made: Settings, sender: BatchSender) -> None:
    users = Topics(topics_made).users
    lookup = TopicLookup(topics_made, 20.0)
    assert await lookup.last_value(users, "a", topics_made.partitions) is None
    for key, value in [("a", b"1"), ("b", b"x"), ("a", b"2"), ("c", b"y"), ("c", None)]:
        await sender.send_keyed(users, [(key.encode(), value, None, [])])
    found = [await lookup.last_value(users, key, topics_made.partitions) for key in ("a", "b", "c", "d")]
    assert found == [b"2", b"x", None, None]


async def test_names_are_found_in_items_also_of_withdrawn_ones(
    topics_made: Settings, sender: BatchSender
) -> None:
    items = Topics(topics_made).items
    await publish(sender, items, [(item.item_id, item) for item in ITEMS])
    await sender.send_keyed(items, [(b"gone", None, None, []), (b"bad", b"{", None, [])])
    wanted = ["item-3", "item-59", "sport", "gone", "bad"]
    names = Names(map(hash64, wanted))
    assert await TopicLookup(topics_made, 20.0).find_names(items, names)
    assert [names.of(hash64(text)).id for text in wanted] == wanted
    assert names.of(hash64("item-3")).title == "story 3"
    never = Names([hash64("never")])
    assert await TopicLookup(topics_made, 20.0).find_names(items, never), "it was read to its end"
    assert never.of(hash64("never")) == Named(hash=f"{hash64('never'):016x}")


async def test_a_look_up_has_a_time_and_few_may_wait(topics_made: Settings) -> None:
    users, partitions = Topics(topics_made).users, topics_made.partitions
    hurried = TopicLookup(topics_made, 1e-6)
    with pytest.raises(TimeoutError, match="not read within"):
        await hurried.last_value(users, "a", partitions)
    assert not await hurried.find_names(Topics(topics_made).items, Names([hash64("i")]))
    lookup = TopicLookup(topics_made, 30.0)
    calls = [lookup.last_value(users, "a", partitions) for _ in range(MOST_WAITING + 2)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None)] * MOST_WAITING + [UnavailableError] * 2
    assert await lookup.last_value(users, "a", partitions) is None, "later ones are answered again"
