"""The client without an event loop: from several threads, and whatever moment it is stopped at."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from answering import answering
from fresh_topics import make_topic

from headrace.serving.requests.address import ReplyAddress, format_reply
from headrace.serving.requests.blocking import BlockingRecClient
from headrace.serving.requests.client import RecClient
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings

pytestmark = pytest.mark.broker


@pytest.fixture
async def requested(settings: Settings) -> Settings:
    """Return settings of an installation that has its request topic."""
    await make_topic(settings, settings.name("rec-requests"), 2)
    return settings


def by_user(request: dict[str, Any], address: ReplyAddress) -> Any:
    if request["user_id"] == "silent":
        return None
    value = b"" if request["user_id"] == "null" else msgspec.json.encode(RecReply(request["user_id"]))
    return format_reply(address, value)


def request(user: str) -> RecRequest:
    return RecRequest("r", user, "home")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "rec-client"]


async def test_many_threads_ask_at_once(requested: Settings) -> None:
    def ask() -> list[str]:
        with BlockingRecClient(requested, "shop", timeout_s=30) as client, ThreadPoolExecutor(8) as pool:
            assert client.reply_topic == requested.name("rec-replies-shop")
            replies = list(pool.map(lambda n: client.recommend(request(f"u{n}")), range(100)))
            assert (client.pending, client.late) == (0, 0)
        return [reply.request_id for reply in replies]

    async with answering(requested, by_user):
        assert await asyncio.to_thread(ask) == [f"u{n}" for n in range(100)]
    assert threads() == []


async def test_errors_are_those_of_the_client(requested: Settings) -> None:
    def ask() -> None:
        client = BlockingRecClient(requested, "shop", timeout_s=30, max_pending=1)
        with pytest.raises(HeadraceError, match="not started"):
            client.recommend(request("u"))
        for _ in range(2):  # it can be started again
            with client:
                with pytest.raises(HeadraceError, match="started already"):
                    client.start()
                with pytest.raises(TimeoutError, match="no reply within 3 s"):
                    client.recommend(request("silent"), 3)
                with pytest.raises(HeadraceError, match="the reply cannot be read"):
                    client.recommend(request("null"))
                assert client.recommend(request("u")).request_id == "u"
        client.stop()
        with pytest.raises(HeadraceError, match="not started"):
            client.recommend(request("u"))

    async with answering(requested, by_user):
        await asyncio.to_thread(ask)
    assert threads() == []


async def test_calls_that_wait_end_at_the_stop(requested: Settings, eventually: Any) -> None:
    client = await asyncio.to_thread(BlockingRecClient(requested, "shop", timeout_s=60).start)
    calls = [asyncio.create_task(asyncio.to_thread(client.recommend, request("silent"))) for _ in range(5)]
    await eventually(lambda: client.pending == 5)
    await asyncio.to_thread(client.stop)
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, HeadraceError)
        assert "the client was stopped" in str(error)
    assert threads() == []


async def test_stops_while_threads_go_on_asking(requested: Settings) -> None:
    """Nobody waits for ever, whenever the stop comes."""
    client = BlockingRecClient(requested, "shop", timeout_s=30)

    def until_stopped() -> int:
        count = 0
        while True:
            try:
                client.recommend(request("u"))
            except HeadraceError:
                return count
            count += 1

    async with answering(requested, by_user):
        for _ in range(3):
            await asyncio.to_thread(client.start)
            asking = [asyncio.create_task(asyncio.to_thread(until_stopped)) for _ in range(4)]
            while not any(task.done() for task in asking) and not client.pending:
                await asyncio.sleep(0)
            await asyncio.to_thread(client.stop)
            await asyncio.wait_for(asyncio.gather(*asking), 30)
    assert threads() == []


def test_a_start_without_a_broker_leaves_nothing() -> None:
    client = BlockingRecClient(Settings(brokers="127.0.0.1:1"))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="no Kafka broker answers"):
            client.start()
        assert threads() == []


async def test_a_reply_that_cannot_be_read_is_an_error(requested: Settings) -> None:
    async with answering(requested, by_user), RecClient(requested, "shop", timeout_s=30) as client:
        with pytest.raises(HeadraceError, match="the reply cannot be read"):
            await client.recommend(request("null"))
        assert (await client.recommend(request("u"))).request_id == "u"
