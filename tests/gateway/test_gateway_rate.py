"""Callers over their rate: over the topic, with a real Redis, and as a status of HTTP."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import msgspec
import pytest
from fresh_topics import make_topics
from gateways import gateway, with_gateway
from installation import ITEMS, dead_letters, producer, publish

from headrace.serving.gateway.faults import answer, status_of
from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

_numbers = itertools.count()


@pytest.mark.broker
async def test_a_caller_over_its_rate_gets_429_and_hears_when_to_come_again(settings: Settings) -> None:
    """A token in 1000 s: how busy the machine is does not matter."""
    here = with_gateway(settings, caller_rate=0.001, caller_burst=3, redis_read_ms=5000)
    await make_topics(here)
    async with producer(here) as sender:
        await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
        async with gateway(here, ["serve"]) as http, RecClient(here, "shop") as client:

            async def ask(**more: Any) -> httpx.Response:
                query = {"user_id": "u", "surface": "home", "n": 3, "deadline_ms": 10_000}
                return await http.get("/recommendations", params={**query, **more})

            assert [(await ask()).status_code for _ in range(4)] == [200, 200, 200, 429]
            refused = await ask()
            assert refused.status_code == 429
            fault = msgspec.json.decode(refused.content, type=RecReply)
            assert fault.error is not None
            assert fault.error.code == "rate_limited"
            assert 1000 * (int(refused.headers["retry-after"]) - 1) < fault.error.retry_after_ms
            assert fault.error.retry_after_ms <= 1000 * int(refused.headers["retry-after"]) <= 1_000_000
            assert fault.request_id.startswith("http-")
            assert (await ask(caller="app")).status_code == 200, "another one"
            page = {"user_id": "u", "surface": "home", "caller": "app", "deadline_ms": 10_000}
            page["lists"] = [{"surface": "home", "n": 2}] * 3
            assert (await http.post("/recommendations", json=page)).status_code == 429, (
                "three lists, two left"
            )

            async def over_kafka(caller: str = "") -> RecReply:
                asked = RecRequest(f"r{next(_numbers)}", "u", "home", n=3, deadline_ms=10_000, caller=caller)
                return await client.recommend(asked, 20)

            told = [await over_kafka() for _ in range(4)]
            assert [bool(reply.items) for reply in told] == [True, True, True, False], "by its reply topic"
            assert told[3].error is not None
            assert 0 < told[3].error.retry_after_ms <= 1_000_000
            assert [bool((await over_kafka("app")).items) for _ in range(3)] == [True, True, False]
    assert await dead_letters(here) == []


@pytest.mark.parametrize(
    ("code", "wait_ms", "status", "after"),
    [
        ("rate_limited", 1, 429, "1"),
        ("rate_limited", 1000, 429, "1"),
        ("rate_limited", 1001, 429, "2"),
        ("overloaded", 59_999, 503, "60"),
        ("unavailable", 0, 503, "1"),
    ],
)
def test_what_a_reply_says_in_milliseconds_is_rounded_up(
    code: str, wait_ms: int, status: int, after: str
) -> None:
    response = answer(b"{}", status_of(code), wait_ms)
    assert (response.status_code, response.headers["retry-after"]) == (status, after)


def test_other_answers_do_not_say_when_to_come_again() -> None:
    assert all("retry-after" not in answer(b"{}", status).headers for status in (200, 207, 400, 404, 504))
