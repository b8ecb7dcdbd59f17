"""Read your own clicks, over a broker and Redis: a reply has what is demanded, or says that it has not."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from fresh_topics import make_topics
from gateways import gateway, with_gateway
from installation import ITEMS, now_ms, producer, publish, until, worker

from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import Event, Item, RecReply, RecRequest, UserProfile
from headrace.streams.messages.state import Mark, marks_of, token_of
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, partition_of

pytestmark = pytest.mark.broker

_numbers = itertools.count()


class Caller:
    """A service that sends clicks with a producer of its own, and asks for lists."""

    def __init__(self, settings: Settings, sender: BatchSender, client: RecClient) -> None:
        self.topics, self.partitions = Topics(settings), settings.partitions
        self.sender, self.client = sender, client

    async def send(self, topic: str, key: str, message: Any, partition: int | None = None) -> Mark:
        """Write a record as any producer does; return where it is."""
        place = partition_of(key.encode(), self.partitions) if partition is None else partition
        body = None if message is None else msgspec.json.encode(message)
        written = await self.sender.send_many(topic, [(key.encode(), body, None, ())], partition=place)
        source: Any = topic.removeprefix(self.topics.events[: -len("events")])
        return Mark(source, place, written.first)

    async def click(self, user: str, item: str, event_id: str = "", partition: int | None = None) -> str:
        event = Event(event_id or f"e{next(_numbers)}", "click", user, item, now_ms())
        return token_of([await self.send(self.topics.events, user, event, partition)])

    async def ask(self, user: str, at_least: str = "", n: int = 60) -> RecReply:
        asked = RecRequest(f"r{next(_numbers)}", user, "home", n=n, deadline_ms=10_000, at_least=at_least)
        return await self.client.recommend(asked, 20)

    async def read(self, user: str, at_least: str, n: int = 60) -> RecReply:
        """Return the first reply that has a state; on a busy machine others come before it, and say so."""
        reply: RecReply = await until(
            lambda: self.ask(user, at_least, n), lambda reply: "state" not in reply.degraded, 30
        )
        return reply


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Caller]:
    """Run `ingest` and `serve`; yield a caller when replies are complete."""
    mine = settings.model_copy(update={"redis_read_ms": 2000})
    await make_topics(mine)
    async with producer(mine) as sender:
        await publish(sender, Topics(mine).items, [(i.item_id, i) for i in ITEMS])
        async with worker(mine, ["ingest"]), worker(mine, ["serve"]), RecClient(mine, "shop") as client:
            caller = Caller(mine, sender, client)
            await until(
                lambda: caller.ask("u"), lambda r: len(r.items) == 60 and "user" not in r.degraded, 30
            )
            yield caller


def rest(reply: RecReply) -> set[str]:
    """Return the items of a list that rest: the user has clicked or seen them."""
    return {item.item_id for item in reply.items if "repeated" in item.sources}


async def test_every_click_is_in_the_next_reply(settings: Settings) -> None:
    async with calling(settings) as caller:
        for n in range(12):
            user, item = f"user-{n % 4}", f"item-{n}"
            reply = await caller.read(user, await caller.click(user, item))
            assert item in rest(reply)
            again = await caller.read(user, reply.state)
            assert marks_of(again.state)[:1] == marks_of(reply.state)[:1]


async def test_a_state_that_does_not_come_is_said_in_time(settings: Settings) -> None:
    async with calling(settings) as caller:
        token = await caller.click("u", "item-1")
        (mark,) = marks_of(token)
        never = token_of([mark._replace(offset=mark.offset + 10**9)])
        reply = await caller.ask("u", never)
        assert "state" in reply.degraded
        assert len(reply.items) == 60
        assert 1000 < reply.took_ms < 10_000
        await caller.read("u", token)


async def test_clicks_that_change_no_row_of_their_own_are_known_too(settings: Settings) -> None:
    """A retry, and clicks that a client puts into the wrong partition."""
    async with calling(settings) as caller:
        await caller.click("u", "item-1", "same")
        retry = await caller.click("u", "item-1", "same")
        await caller.read("u", retry)
        for n in range(caller.partitions):
            item = f"item-{20 + n}"
            token = await caller.click("u", item, partition=n)
            assert marks_of(token)[0].partition == n
            assert item in rest(await caller.read("u", token))


async def test_partitions_may_move_meanwhile(settings: Settings) -> None:
    """Workers of `ingest` come and go; no reply claims a state that it does not have."""
    async with calling(settings) as caller:
        mine = settings.model_copy(update={"redis_read_ms": 2000})
        for _ in range(2):
            async with worker(mine, ["ingest"]):
                for user in ("a", "b", "c"):
                    await _click_and_read(caller, user)
            for user in ("a", "b", "c"):
                await _click_and_read(caller, user)


async def _click_and_read(caller: Caller, user: str) -> None:
    """Click an item, in a partition that may be the wrong one; ask until a reply has it."""
    n = next(_numbers)
    item = f"item-{n % 60}"
    token = await caller.click(user, item, partition=n % caller.partitions)
    assert item in rest(await caller.read(user, token))


async def test_profiles_and_items_are_read_as_well(settings: Settings) -> None:
    async with calling(settings) as caller:
        profile = await caller.send(caller.topics.users, "u", UserProfile("u", "BR", 33))
        await caller.read("u", token_of([profile]))
        new = await caller.send(caller.topics.items, "new", Item("new", now_ms(), "a new story"))
        reply = await caller.read("u", token_of([new]), n=61)
        assert "new" in {item.item_id for item in reply.items}
        forgotten = await caller.send(caller.topics.users, "u", None)
        reply = await caller.read("u", token_of([forgotten]))
        # There is no row of this user, unless it was shown a list since: replies were logged meanwhile.
        assert forgotten in marks_of(reply.state) or marks_of(reply.state) == []


async def test_the_gateway_passes_states(settings: Settings) -> None:
    mine = with_gateway(settings)
    await make_topics(mine)
    async with producer(mine) as sender:
        await publish(sender, Topics(mine).items, [(i.item_id, i) for i in ITEMS])
        async with gateway(mine, ["ingest", "serve"]) as http:
            query = {"user_id": "u", "surface": "home", "n": 60, "deadline_ms": 10_000}

            async def listed(**more: Any) -> RecReply:
                answer = await http.get("/recommendations", params={**query, **more})
                assert answer.status_code == 200, answer.text
                return msgspec.json.decode(answer.content, type=RecReply)

            await until(listed, lambda r: len(r.items) == 60 and "user" not in r.degraded, 30)
            event = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "item-7", "ts": now_ms()}
            (result,) = (await http.post("/events", json=event)).json()["events"]
            reply = await until(
                lambda: listed(at_least=result["state"]), lambda reply: "state" not in reply.degraded, 30
            )
            assert "item-7" in rest(reply)
            (mark, *_) = marks_of(reply.state)
            never = token_of([mark._replace(offset=mark.offset + 10**9)])
            posted = await http.post("/recommendations", json={**query, "at_least": never})
            assert "state" in posted.json()["degraded"]
            bad = await http.get("/recommendations", params={**query, "at_least": "events.3.17"})
            assert bad.status_code == 400
            assert bad.json()["error"]["field"] == "at_least"
