"""The whole loop over real topics: events in, features and models updated, ranked answers out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fresh_topics import make_topics
from installation import ITEMS, dead_letters, now_ms, producer, publish, read_all, until, worker
from plain_item_events import values_of

from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import folder_of
from headrace.models.state import users as user_state
from headrace.models.state.items import ROW as ITEM_ROW
from headrace.serving.requests.client import RecClient
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.columns import ITEM_EVENT
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Event, Example, Item, RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

EVERY_ROLE = ["ingest", "aggregate", "learn", "log", "trainer", "index", "serve"]


@pytest.fixture
def quick(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={
            "partitions": 2,
            "data_dir": tmp_path,
            "outcome_wait_ms": 700,
            "log_flush_s": 0.3,
            "publish_every_s": 0.3,
            "towers_every_s": 1.0,
            "train_every_s": 0.5,
            "train_min_rows": 200,
            "train_min_clicks": 10,
            "rules": {"epsilon": "0.1"},
            "shown_rest_s": 0.0,  # there are few items, and nobody should run out of them
            "shown_most": 1000,
        }
    )


def request(request_id: str, user: str, **fields: Any) -> RecRequest:
    """Return a request with a deadline that a busy machine meets, too: a late reply is not logged."""
    return RecRequest(request_id, user, "home", deadline_ms=5000, **fields)


async def test_the_loop_from_click_to_lightgbm_ranked_reply(quick: Settings) -> None:
    """Clicks become features in Redis, lists are logged, labelled, trained on; the ranker comes into use."""
    topics = Topics(quick)
    await make_topics(quick)
    rng = np.random.default_rng(3)
    async with producer(quick) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        # While the catalogue is in the files of the role `index`, the towers are not used.
        roles = [role for role in EVERY_ROLE if role != "index"]
        async with worker(quick, roles), RecClient(quick, "loop") as client:
            await _browse(quick, sender)
            store = RedisStore(quick)
            rows = await until(
                lambda: store.get("u", [hash64("user-1")]),
                lambda r: r[0] is not None and unpack(r, user_state.ROW)[0]["n_clicks"][0] == 5,
            )
            await store.close()
            row = unpack(rows, user_state.ROW)[0][0]
            assert set(row["cat"][row["cat_w"] > 0]) == {hash64("sport")}

            reply = RecReply("")
            ranked_by = ""
            deadline = time.monotonic() + 40
            n = 0
            while not ranked_by and time.monotonic() < deadline:
                for _ in range(10):
                    n += 1
                    reply = await client.recommend(
                        request(f"r{n}", f"user-{n % 8}", n=10, context=Context(country="BR")), 5.0
                    )
                    assert reply.error is None
                    assert len(reply.items) == 10
                    await _react(quick, sender, reply, f"user-{n % 8}", rng)
                ranked_by = reply.model.ranker if reply.model else ""
                await asyncio.sleep(0.2)
            assert ranked_by, "LightGBM was not trained from the log in time"
            assert reply.model is not None
            assert reply.model.online, "the online model was never published"
            assert reply.model.embeddings, "the towers were never published"
            assert reply.degraded == []
            log = example_log.read(folder_of(quick))
            assert log.num_rows >= 200
            assert 0 < sum(log.column("clicked").to_pylist()) < log.num_rows
        assert await dead_letters(quick) == []


async def _browse(settings: Settings, sender: BatchSender) -> None:
    """Eight users open five stories each: odd users sport, even users music."""
    events = []
    for u in range(8):
        for k in range(5):
            item = f"item-{2 * (u + k) + u % 2}"
            events.append(
                (
                    f"user-{u}",
                    Event(f"e{u}-{k}", "click", f"user-{u}", item, now_ms(), context=Context(country="BR")),
                )
            )
    await publish(sender, Topics(settings).events, events)


async def _react(
    settings: Settings, sender: BatchSender, reply: RecReply, user: str, rng: np.random.Generator
) -> None:
    """Click items of the user's kind at times."""
    mine = int(user[-1]) % 2
    events = [
        (
            user,
            Event(
                f"{reply.request_id}-{p}",
                "click",
                user,
                item.item_id,
                now_ms(),
                request_id=reply.request_id,
                position=p,
                surface="home",
                context=Context(country="BR"),
            ),
        )
        for p, item in enumerate(reply.items)
        if int(item.item_id[5:]) % 2 == mine and rng.random() < 0.4
    ]
    if events:
        await publish(sender, Topics(settings).events, events)


async def test_a_new_item_is_retrievable_within_a_second(quick: Settings) -> None:
    topics = Topics(quick)
    await make_topics(quick)
    async with producer(quick) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        async with worker(quick, ["ingest", "aggregate", "serve"]), RecClient(quick, "fresh") as client:
            await _browse(quick, sender)
            new = Item("brand-new", now_ms(), "a new story", "sport", ["ball"])
            began = time.monotonic()
            await publish(sender, topics.items, [(new.item_id, new)])
            n = 0
            while True:
                n += 1
                reply = await client.recommend(RecRequest(f"q{n}", "user-1", "home", n=60, explain=True), 5.0)
                if any(i.item_id == "brand-new" for i in reply.items):
                    break
                assert time.monotonic() - began < 1.0, "not retrievable within a second"
            assert all(i.why for i in reply.items)


async def test_bad_input_becomes_dead_letters_and_error_replies_and_stops_nothing(quick: Settings) -> None:
    topics = Topics(quick)
    await make_topics(quick)
    good = msgspec.json.encode(Event("ok", "click", "u", "item-1", now_ms()))

    def event(**changes: Any) -> bytes:
        return msgspec.json.encode({**msgspec.json.decode(good), **changes})

    bad_events = {
        b"\xff\xfe not json": ("undecodable", ""),
        b'{"event_id": "x"': ("undecodable", ""),
        b"[]": ("invalid_field", ""),
        event(ts="now"): ("invalid_field", "ts"),
        event(type="purchase"): ("invalid_field", "type"),
        event(type="dwell"): ("missing_field", "dwell_ms"),
        event(type="dwell", dwell_ms=-1): ("invalid_field", "dwell_ms"),
        event(event_id="y" * 65): ("invalid_field", "event_id"),
        event(ts=now_ms() + 3_600_000): ("from_the_future", "ts"),
        event(ts=now_ms() - 7_200_000): ("too_late", "ts"),
        event(item_id=None): ("invalid_field", "item_id"),
        event(padding="p" * 2_000_000): ("too_large", ""),
    }
    bad_items = {
        b"{}": ("missing_field", "item_id"),
        b'{"item_id": "i", "published_ts": -5}': ("out_of_range", "published_ts"),
    }
    async with producer(quick) as sender:
        await sender.send_keyed(topics.items, [(b"bad", v, None, []) for v in bad_items])
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        await sender.send_keyed(topics.events, [(b"u", v, None, []) for v in (*bad_events, good)])
        await sender.send_keyed(topics.users, [(b"u", b'{"user_id": 7}', None, [])])
        async with worker(quick, ["ingest", "aggregate", "serve"]), RecClient(quick, "bad") as client:
            await _bad_requests(client)
            # A reply address outside the allow-list is not written to, and the request is not lost silently.
            body = msgspec.json.encode(RecRequest("stray", "u", "home"))
            stray = [("reply_to", topics.events.encode()), ("correlation_id", b"1")]
            await sender.send_keyed(topics.requests, [(b"u", body, None, stray), (b"u", body, None, [])])
            letters = await until(lambda: dead_letters(quick), lambda found: len(found) >= 27)
            reply = await client.recommend(RecRequest("fine", "u", "home", n=5), 5.0)
            assert len(reply.items) == 5, "a good request after all the bad ones"
            store = RedisStore(quick)
            rows = await store.get("u", [hash64("u")])
            await store.close()
            clicks = unpack(rows, user_state.ROW)[0][0]["n_clicks"]
            assert clicks == 1, "only the good event counts"

    def of(topic: str) -> dict[bytes | None, tuple[str, str]]:
        return {x.value: (x.reason, x.field) for x in letters if x.topic == topic}

    assert of(topics.events) == bad_events
    assert of(topics.items) == bad_items
    assert list(of(topics.users).values()) == [("invalid_field", "user_id")]
    reasons = {x.reason for x in letters if x.topic == topics.requests}
    assert {"reply_topic_not_allowed", "no_reply_address", "invalid_field", "undecodable"} <= reasons
    assert all(x.agent and x.offset >= 0 for x in letters)
    assert len(await read_all(quick, topics.events)) == len(bad_events) + 1, "nothing was written to `events`"


async def _bad_requests(client: RecClient) -> None:
    fine = {"request_id": "q", "user_id": "u", "surface": "home"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({**fine, "surface": "fridge"}, "surface"),
        ({**fine, "n": 0}, "n"),
        ({**fine, "n": 10**9}, "n"),
        ({**fine, "n": "many"}, "n"),
        ({**fine, "user_id": ""}, "user_id"),
        ({"request_id": "q", "surface": "home"}, "user_id"),
        ({**fine, "surface": "related"}, "item_id"),
        ({**fine, "context": {"ts": now_ms() + 10**8}}, "context.ts"),
    ]
    for body, field in cases:
        answer = await client.request(msgspec.json.encode(body), b"u", timeout_s=5.0)
        reply = msgspec.json.decode(answer, type=RecReply)
        assert reply.error is not None, body
        assert reply.error.field == field
        assert reply.request_id == "q"
    for raw in (b"not json", b"x" * 2_000_000):
        reply = msgspec.json.decode(await client.request(raw, b"u", timeout_s=5.0), type=RecReply)
        assert reply.error is not None
        assert reply.error.code in {"undecodable", "too_large"}


async def test_poison_on_the_internal_topics_is_buried_and_stops_nothing(quick: Settings) -> None:
    topics = Topics(quick)
    await make_topics(quick)
    impression = {
        "request_id": "r", "user_id": "u", "surface": "home", "ts": 1, "country": "", "device": "",
        "ranker": "", "online": "", "spec": "x", "item_ids": ["item-1"], "propensities": [1.0],
        "explored": [False], "scores": [1.0], "features": "",
    }  # fmt: skip
    poison = {
        topics.impressions: [b"nonsense", msgspec.json.encode({**impression, "ts": 9_999_999_999_999_999})],
        topics.examples: [b"[", msgspec.json.encode({"position": 100_000}), b"x" * 200_000],
        topics.item_events: [b"x", b"", b"y" * 64, values_of(np.zeros(3, ITEM_EVENT))[0]],
    }
    async with producer(quick) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        for topic, values in poison.items():
            await sender.send_many(topic, [(b"k", v, None, []) for v in values], partition=0)
        await sender.send_many(
            topics.models, [(b"ranker", b"{}", None, []), (b"online", b"", None, [])], partition=0
        )
        async with worker(quick, EVERY_ROLE), RecClient(quick, "poison") as client:
            await _browse(quick, sender)
            letters = await until(lambda: dead_letters(quick), lambda found: len(found) >= 10)
            reply = await client.recommend(RecRequest("fine", "user-1", "home", n=5), 5.0)
            assert len(reply.items) == 5
            store = RedisStore(quick)
            await until(
                lambda: store.get("i", [hash64("item-3")]),
                lambda rows: rows[0] is not None and unpack(rows, ITEM_ROW)[0]["totals"][0][1] > 0,
            )
            await store.close()
    seen = {topic: sum(1 for x in letters if x.topic == topic) for topic in poison}
    # Both readers of `impressions` bury what neither can read.
    assert seen[topics.examples] == 3
    assert seen[topics.item_events] == 4
    assert seen[topics.impressions] >= 2


def slots(records: list[Any]) -> list[Example]:
    """Return the examples of shown slots; a sample of the lists has others, too."""
    every = [msgspec.json.decode(r.value, type=Example) for r in records]
    return [e for e in every if not e.unshown]


async def test_clicks_label_their_lists_after_a_long_stop_of_the_learner(quick: Settings) -> None:
    """The learner was down for longer than the wait: lists in its backlog must keep their clicks."""
    settings = quick.model_copy(update={"outcome_wait_ms": 500})
    topics = Topics(settings)
    await make_topics(settings)
    clicks = shown = 0
    async with producer(settings) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        async with worker(settings, ["ingest", "aggregate", "serve"]), RecClient(settings, "late") as client:
            for n in range(20):
                reply = await client.recommend(request(f"r{n}", f"user-{n}", n=5), 5.0)
                shown += len(reply.items)
                first = reply.items[0].item_id
                event = Event(f"c{n}", "click", f"user-{n}", first, now_ms(), request_id=f"r{n}", position=0)
                await publish(sender, topics.events, [(f"user-{n}", event)])
                clicks += 1
            await asyncio.sleep(1.5)  # three times the wait
        async with worker(settings, ["learn"]):
            records = await until(
                lambda: read_all(settings, topics.examples), lambda found: len(slots(found)) >= shown
            )
    examples = slots(records)
    assert len(examples) == shown
    assert sum(e.clicked for e in examples) == clicks
