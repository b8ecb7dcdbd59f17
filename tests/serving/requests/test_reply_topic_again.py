"""A reply topic that is deleted while workers answer to it: the client makes it again and gets replies."""

from __future__ import annotations

import itertools

import pytest
from fresh_topics import admin_of, make_topics
from installation import ITEMS, producer, publish, until, worker

from headrace.serving.requests.client import RecClient
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


async def test_replies_come_again(settings: Settings) -> None:
    two = settings.model_copy(update={"partitions": 2})
    await make_topics(two)
    numbers = itertools.count()

    async def answered(client: RecClient) -> int:
        try:
            asked = RecRequest(f"r{next(numbers)}", "u", "home", n=3, deadline_ms=20_000)
            return len((await client.recommend(asked, 3)).items)
        except (TimeoutError, UnavailableError):
            return 0

    async with producer(two) as sender:
        await publish(sender, Topics(two).items, [(i.item_id, i) for i in ITEMS])
        async with worker(two, ["serve"]), RecClient(two, "gone") as client, RecClient(two, "stays") as other:
            for each in (client, other):
                await until(lambda each=each: answered(each), lambda n: n == 3, 30)
            async with admin_of(two.brokers) as admin:
                await admin.delete_topics([client.reply_topic])
            await until(lambda: answered(other), lambda n: n == 3, 10)
            await until(lambda: answered(client), lambda n: n == 3, 60)
            for each in (client, other):
                assert [await answered(each) for _ in range(5)] == [3] * 5
