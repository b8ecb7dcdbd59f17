"""Many lists in one call of the gateway, that nobody waits for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from fresh_topics import make_topics
from gateway_app import application
from gateways import gateway, with_gateway
from installation import ITEMS, dead_letters, producer, publish, read_all

from headrace.serving.gateway.bulk import MOST, MOST_WAITING
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

LINES = {"Content-Type": "application/x-ndjson"}


def ask(user: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": user, "surface": "digest", "n": 3, **fields}


@pytest.mark.broker
async def test_the_lists_come_in_the_order_of_the_requests_over_the_topic_of_bulk(settings: Settings) -> None:
    here = with_gateway(settings)
    await make_topics(here)
    async with producer(here) as sender:
        await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
    asked = [ask(f"user-{n}", request_id=f"b-{n}", deadline_ms=1) for n in range(20)]
    bad = ask("user-x", n=100_000, request_id="bad")
    lines = "\n".join(map(json.dumps, [asked[0], bad, ask("user-0", request_id=None)])) + '\n{"user_id"\n'
    async with gateway(here, ["serve"]) as http:
        many = await http.post("/bulk", json=asked)
        one = await http.post("/bulk", json=asked[3])
        some = await http.post("/bulk", content=lines, headers=LINES)
        none = await http.post("/bulk", json=[bad])
        assert await read_all(here, Topics(here).impressions) == [], "nobody has seen these lists"
    assert [answer.status_code for answer in (many, one, some, none)] == [200, 200, 207, 400]
    assert [reply["request_id"] for reply in many.json()["replies"]] == [f"b-{n}" for n in range(20)]
    assert all(len(reply["items"]) == 3 for reply in many.json()["replies"])
    assert not any("deadline" in reply["degraded"] for reply in many.json()["replies"]), "full lists"
    assert [reply["request_id"] for reply in one.json()["replies"]] == ["b-3"]
    first, second, third, fourth = some.json()["replies"]
    assert (first["request_id"], len(first["items"])) == ("b-0", 3)
    assert (second["request_id"], second["error"]["code"], second["error"]["field"]) == (
        "bad", "invalid_field", "n"
    )  # fmt: skip
    assert third["request_id"].startswith("http-")
    assert (fourth["request_id"], fourth["error"]["code"]) == ("", "undecodable")
    assert await read_all(here, Topics(here).requests) == []
    assert len(await read_all(here, Topics(here).bulk_requests)) == 23
    assert await dead_letters(here) == [], "what is refused is not written"


@pytest.mark.broker
async def test_requests_without_a_reply_say_so(settings: Settings) -> None:
    """No worker of `serve` runs."""
    here = with_gateway(settings, gateway_bulk_s=0.2)
    await make_topics(here)
    async with gateway(here) as http:
        answer = await http.post("/bulk", json=[ask("u", request_id="a"), ask("v", request_id="b", n=0)])
        only = await http.post("/bulk", json=[ask("v", request_id="b")])
    replies = answer.json()["replies"]
    assert answer.status_code == only.status_code == 504
    assert [(r["request_id"], r["error"]["code"]) for r in replies] == [
        ("a", "no_reply"),
        ("b", "invalid_field"),
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([ask("u")] * (MOST + 1), 413, "too_large"),
        ([ask("u", n=0)], 400, "invalid_field"),
        ([7], 400, "invalid_field"),
        ([], 200, None),
    ],
)
async def test_bodies_are_bounded_and_refused_with_a_reason(body: Any, status: int, code: str | None) -> None:
    async with application() as (http, memory, measured):
        answer = await http.post("/bulk", json=body)
        found = answer.json()
    errors = [reply["error"]["code"] for reply in found.get("replies", ())] or [
        found.get("error", {}).get("code")
    ]
    assert (answer.status_code, errors[0]) == (status, code)
    assert memory.in_bulk == []
    assert measured == [("POST /bulk", status)]


@pytest.mark.parametrize(
    ("away", "status", "code"),
    [
        (UnavailableError("no broker"), 503, "unavailable"),
        (TimeoutError(), 504, "no_reply"),
        (HeadraceError("too many"), 503, "busy"),
    ],
)
async def test_what_is_away_is_said_of_every_request(away: Exception, status: int, code: str) -> None:
    async with application() as (http, memory, _):
        memory.away = away
        answer = await http.post("/bulk", json=[ask("u", request_id="a"), ask("v", request_id="b")])
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)
    told = [(reply["request_id"], reply["error"]["code"]) for reply in answer.json()["replies"]]
    assert told == [("a", code), ("b", code)]


async def test_bulk_calls_leave_room_for_lists_that_somebody_waits_for() -> None:
    async with application(most=64, gateway_in_flight=64, gateway_body_bytes=1 << 20) as (http, memory, _):
        memory.let_go.clear()
        few = [ask("u")] * (MOST // 4)
        calls = [asyncio.create_task(http.post("/bulk", json=few)) for _ in range(16)]
        for _ in range(16 * len(few)):
            await memory.asked.acquire()
        over: httpx.Response = await http.post("/bulk", json=[ask("u")])
        now = asyncio.create_task(http.get("/recommendations?user_id=u&surface=home"))
        await memory.asked.acquire()
        memory.let_go.set()
        assert [(await call).status_code for call in calls] == [200] * 16
        assert (await now).status_code == 200
        assert (over.status_code, over.json()["error"]["code"]) == (503, "busy")
        assert (await http.post("/bulk", json=[ask("u")])).status_code == 200


async def test_the_requests_of_all_bulk_calls_are_bounded_together() -> None:
    async with application(most=256, gateway_in_flight=256) as (http, memory, _):
        memory.let_go.clear()
        calls = [
            asyncio.create_task(http.post("/bulk", json=[ask("u")] * MOST))
            for _ in range(MOST_WAITING // MOST)
        ]
        for _ in range(MOST_WAITING):
            await memory.asked.acquire()
        assert (await http.post("/bulk", json=[ask("u")])).status_code == 503
        memory.let_go.set()
        assert [(await call).status_code for call in calls] == [200] * len(calls)
