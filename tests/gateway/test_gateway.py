"""The gateway over real HTTP: lists, events, items and profiles, on a running installation."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from fresh_topics import make_topics
from gateways import gateway, with_gateway
from installation import ITEMS, dead_letters, now_ms, producer, publish, read_all, until

from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import partition_of

pytestmark = pytest.mark.broker

JSON = {"Content-Type": "application/json"}


def event(event_id: str, user: str, item: str = "item-1", **fields: Any) -> dict[str, Any]:
    return {"event_id": event_id, "type": "click", "user_id": user, "item_id": item, "ts": now_ms(), **fields}


@pytest.fixture
async def here(settings: Settings) -> Settings:
    """Settings of an installation with topics and a gateway."""
    await make_topics(settings)
    return with_gateway(settings)


async def test_a_list_an_event_and_what_is_kept_of_the_user(here: Settings) -> None:
    """The way of a service without Kafka: items, a profile, events, a list, a look at what is kept."""
    async with gateway(here, ["ingest", "aggregate", "serve"]) as http:
        for item in ITEMS:
            body = {"title": item.title, "category": item.category, "published_ts": item.published_ts}
            put = await http.put(f"/items/{item.item_id}", json=body)
            assert put.status_code == 200, put.text
        put = await http.put(
            "/users/user-1", json={"country": "DE", "age": 30, "preferred_categories": ["sport"]}
        )
        assert put.status_code == 200

        async def listed() -> dict[str, Any]:
            answer = await http.get(
                "/recommendations",
                params={"user_id": "user-1", "surface": "home", "n": 5, "deadline_ms": 5000},
            )
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        reply = await until(listed, lambda reply: len(reply.get("items", ())) == 5)
        assert reply["request_id"].startswith("http-")
        shown = [item["item_id"] for item in reply["items"]]
        clicked = shown[0]
        posted = await http.post(
            "/events", json=event("e1", "user-1", clicked, request_id=reply["request_id"], position=0)
        )
        assert posted.status_code == 200, posted.text

        async def kept() -> dict[str, Any]:
            answer = await http.get("/users/user-1")
            return dict(answer.json()) if answer.status_code == 200 else {}

        user = await until(kept, lambda user: bool(user.get("recent_clicks")) and bool(user["shown"]))
        assert user["recent_clicks"][0]["item"]["id"] == clicked
        assert user["recent_clicks"][0]["item"]["title"].startswith("story ")
        assert user["profile"]["country"] == "DE"
        assert user["country"]["id"] == "DE"
        assert user["totals"]["click"] == 1
        assert user["categories"][0]["of"]["id"] in ("sport", "music")
        assert {s["item"]["id"] for s in user["shown"]} <= {item.item_id for item in ITEMS}
        assert all(s["rests"] for s in user["shown"])
        assert user["names_complete"] is True
        plain = (await http.get("/users/user-1?names=false")).json()
        assert len(plain["recent_clicks"][0]["item"]["hash"]) == 16

        async def counted() -> dict[str, Any]:
            return dict((await http.get(f"/items/{clicked}")).json())

        item_now = await until(counted, lambda item: item["totals"]["click"] == 1)
        assert item_now["item"]["item_id"] == clicked
        assert item_now["windows"]["24h"]["click"] == 1
        assert await dead_letters(here) == []


async def test_events_land_where_the_answer_says(here: Settings) -> None:
    events = [event(f"e{n}", f"user-{n % 7}") for n in range(50)]
    async with gateway(here) as http:
        one = await http.post("/events", json=events[0])
        many = await http.post("/events", json=events[1:30])
        lines = "\n".join(json.dumps(e) for e in events[30:]) + "\n\n"
        rest = await http.post("/events", content=lines, headers={"Content-Type": "application/x-ndjson"})
    results = [r for answer in (one, many, rest) for r in answer.json()["events"]]
    assert [answer.status_code for answer in (one, many, rest)] == [200, 200, 200]
    assert [r["event_id"] for r in results] == [e["event_id"] for e in events]
    records = {(r.partition, r.offset): r for r in await read_all(here, Topics(here).events)}
    assert len(records) == 50
    for sent, told in zip(events, results, strict=True):
        record = records[told["partition"], told["offset"]]
        assert json.loads(record.value) == sent
        assert record.key == sent["user_id"].encode()
        assert told["partition"] == partition_of(record.key, here.partitions)
        assert told["state"] == f"1.e{told['partition']}-{told['offset']}"


BAD: dict[str, Any] = {
    "no dwell_ms": {"type": "dwell"},
    "too late": {"ts": now_ms() - 10 * 3_600_000},
    "from the future": {"ts": now_ms() + 3_600_000},
    "seconds": {"ts": now_ms() // 1000},
    "no user": {"user_id": None},
    "empty item": {"item_id": ""},
    "long id": {"event_id": "e" * 65},
    "no such type": {"type": "buy"},
    "nested": {"context": {"age": 200}},
    "large": {"more": "x" * 70_000},
}


async def test_bad_events_are_refused_as_the_topic_would_and_stop_no_good_one(here: Settings) -> None:
    """The same events straight into the topic become dead letters with the same reasons and fields."""
    bad = [{**event(f"bad-{n}", "user-1"), **fields} for n, fields in enumerate(BAD.values())]
    bodies = [json.dumps(body).encode() for body in bad] + [b'{"event_id": "cut', b"7", b"[]", b"null"]
    good = json.dumps(event("good", "user-2")).encode()
    async with gateway(here, ["ingest"]) as http:
        mixed = await http.post(
            "/events", content=b"\n".join([*bodies, good]), headers={"Content-Type": "application/x-ndjson"}
        )
        only_bad = await http.post("/events", content=bodies[0], headers=JSON)
        assert await read_all(here, Topics(here).events) != []
        async with producer(here) as sender:
            for body in bodies:
                await sender.send_keyed(Topics(here).events, [(b"user-1", body, None, [])])
            letters = await until(lambda: dead_letters(here), lambda found: len(found) == len(bodies))
    assert mixed.status_code == 207
    assert only_bad.status_code == 400
    answer = mixed.json()
    assert (answer["taken"], answer["refused"]) == (1, len(bodies))
    assert answer["events"][-1]["taken"] is True
    told = [(e["error"]["code"], e["error"].get("field", "")) for e in answer["events"][:-1]]
    by_body = {letter.value: (letter.reason, letter.field) for letter in letters}
    assert told == [by_body[body] for body in bodies]


async def test_items_and_users_are_written_and_withdrawn(here: Settings) -> None:
    topics = Topics(here)
    async with gateway(here) as http:
        put = await http.put("/items/a", json={"published_ts": now_ms(), "more": [1]})
        same = await http.put("/items/a", json={"item_id": "a", "published_ts": now_ms()})
        other = await http.put("/items/a", json={"item_id": "b", "published_ts": now_ms()})
        bad = await http.put("/items/a", json={"published_ts": 12})
        gone = await http.delete("/items/a")
        unknown = await http.get("/items/a")
        user = await http.put("/users/u", json={"age": 12})
        kept = await http.get("/users/u")
        forgotten = await http.delete("/users/u")
        nobody = await http.get("/users/u")
    assert [r.status_code for r in (put, same, other, bad, gone, unknown)] == [200, 200, 400, 400, 200, 404]
    assert other.json()["error"]["field"] == "item_id"
    assert bad.json()["error"] == {
        "code": "out_of_range",
        "field": "published_ts",
        "message": bad.json()["error"]["message"],
    }
    assert [r.status_code for r in (user, kept, forgotten, nobody)] == [200, 200, 200, 404]
    assert kept.json()["profile"]["age"] == 12
    items = await read_all(here, topics.items)
    assert [(r.key, r.value is None) for r in items] == [(b"a", False), (b"a", False), (b"a", True)]
    assert json.loads(items[0].value)["more"] == [1]
    assert [r.offset for r in items] == [a.json()["offset"] for a in (put, same, gone)]
    assert [r.value is None for r in await read_all(here, topics.users)] == [False, True]


async def test_a_request_that_is_refused_says_which_field(here: Settings) -> None:
    async with gateway(here, ["serve"]) as http:
        query = await http.get("/recommendations?user_id=u&surface=home&n=0")
        missing = await http.get("/recommendations?user_id=u")
        body = await http.post(
            "/recommendations", json={"request_id": "r1", "user_id": "u", "surface": "related"}
        )
        late = await http.get(f"/recommendations?user_id=u&surface=home&ts={now_ms() + 3_600_000}")
        broken = await http.post("/recommendations", content=b"{", headers=JSON)
    assert await dead_letters(here) == [], "nothing of them was written"
    assert [r.status_code for r in (query, missing, body, late, broken)] == [400] * 5
    told = [r.json()["error"] for r in (query, missing, body, late, broken)]
    assert [(e["code"], e.get("field", "")) for e in told] == [
        ("invalid_field", "n"),
        ("missing_field", "surface"),
        ("missing_field", "item_id"),
        ("from_the_future", "ts"),
        ("undecodable", ""),
    ]


async def test_no_reply_in_time_is_504_and_names_the_request(here: Settings) -> None:
    """Nobody answers requests: no worker of `serve` runs."""
    quick = here.model_copy(update={"gateway_reply_ms": 100})
    async with gateway(quick) as http:
        answer = await http.post(
            "/recommendations",
            json={"request_id": "r1", "user_id": "u", "surface": "home", "deadline_ms": 50},
        )
    assert answer.status_code == 504
    assert answer.json()["request_id"] == "r1"
    assert answer.json()["error"]["code"] == "no_reply"


async def test_health_and_readiness(here: Settings) -> None:
    async with gateway(here) as http:
        health, ready, document = [await http.get(path) for path in ("/health", "/ready", "/openapi.json")]
    assert [r.status_code for r in (health, ready, document)] == [200, 200, 200]
    assert document.json()["openapi"] == "3.1.0"


async def test_the_reply_is_that_of_the_topic(here: Settings) -> None:
    async with producer(here) as sender:
        await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
    async with gateway(here, ["serve"]) as http:
        answer: httpx.Response = await http.post(
            "/recommendations",
            json={"request_id": "r1", "user_id": "u", "surface": "home", "n": 3, "deadline_ms": 5000},
        )
    reply = msgspec.json.decode(answer.content, type=RecReply)
    assert answer.status_code == 200
    assert reply.request_id == "r1"
    assert reply.error is None


async def test_the_callers_own_candidates_are_ranked(here: Settings) -> None:
    async with producer(here) as sender:
        await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
    mine = [ITEMS[3].item_id, "of-another-catalogue", ITEMS[9].item_id]
    asked = {"request_id": "r1", "user_id": "u", "surface": "home", "n": 3, "deadline_ms": 5000}
    async with gateway(here, ["serve"]) as http:
        answer = await http.post("/rank", json={**asked, "candidates": mine})
        without = await http.post("/rank", json=asked)
    reply = msgspec.json.decode(answer.content, type=RecReply)
    assert sorted(i.item_id for i in reply.items) == sorted(mine)
    assert (without.status_code, without.json()["error"]["field"]) == (400, "candidates")
