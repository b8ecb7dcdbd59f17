"""Requests, replies and dead letters with hostile input and missing parts, without a broker."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.errors import KafkaTimeoutError
from serve_stage import NOW, TO_P, Broker, Rec, batch, body, stage_on
from worlds import World, here, item, request

from headrace.agents.wiring import Wiring
from headrace.models.features.spec import SPEC
from headrace.models.learning import online, pointers, tried_settings
from headrace.models.learning.arms import CANDIDATE, arm_of
from headrace.models.learning.kinds import SETTINGS
from headrace.models.learning.online_learner import OnlineLearner
from headrace.models.learning.pointers import Pointers
from headrace.serving.requests.address import parse_reply_address, unwrap
from headrace.serving.requests.replies import MISSING_S, ReplySender
from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, RecReply
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender


def envelope(value: bytes = b"{}", reply_to: bytes = b'"rec-replies-p"', cid: bytes = b'"1"') -> bytes:
    return b'{"value":%b,"reply_to":%b,"correlation_id":%b,"__faust":{"ns":"@ReqRepRequest"}}' % (
        value,
        reply_to,
        cid,
    )


DEEP = b"[" * 20_000 + b"]" * 20_000
POISON = [
    envelope(DEEP),
    envelope(reply_to=b'"\xff\xfe"'),
    envelope(reply_to=b'"\\ud800"'),
    envelope(cid=b'"\xff"'),
    envelope(b'{"request_id":"\xff","user_id":"u","surface":"home"}'),
    b'"@ReqRepRequest"' + b"\xff" * 10,
]


@pytest.mark.parametrize("value", POISON)
@pytest.mark.parametrize("headers", [TO_P, []], ids=["headers", "none"])
async def test_no_request_stops_the_stage(value: bytes, headers: Any) -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    todo = batch(Rec(value, headers=headers), Rec(body()))
    await stage.finish(todo, await stage.answer(todo))
    ((reason, _, offset),) = broker.letters()
    assert (reason == "internal", offset) == (False, 0)
    replies = [msgspec.json.decode(r[1] or b"") for r in broker.of("rec-replies-p")]
    assert [len(r["items"]) for r in replies if "items" in r] == [3], "the good one is answered"


async def test_what_we_did_not_think_of_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    one = stage.intake.requests._decoder.one

    def fault(record: Any) -> Any:
        if record.offset == 0:
            raise ZeroDivisionError
        return one(record)

    monkeypatch.setattr(stage.intake.requests._decoder, "one", fault)
    todo = batch(Rec(body()), Rec(body()))
    await stage.finish(todo, await stage.answer(todo))
    assert broker.letters() == [("internal", "", 0)]
    codes = [msgspec.json.decode(r[1] or b"", type=RecReply).error for r in broker.of("rec-replies-p")]
    assert sorted(e.code if e else "" for e in codes) == ["", "internal"]


@pytest.mark.parametrize("value", POISON[:4])
def test_a_broken_envelope_is_none(value: bytes) -> None:
    assert parse_reply_address([], value) is None
    assert parse_reply_address(TO_P, value) == parse_reply_address(TO_P)
    assert unwrap(value) is value


def test_a_large_body_is_not_unwrapped() -> None:
    large = envelope(b'"%b"' % (b"x" * 1000))
    assert parse_reply_address([], large, 500) is None
    assert unwrap(large, 500) is large
    assert parse_reply_address([], large, 5000) is not None


async def test_a_large_request_without_an_address_in_its_headers_is_too_large() -> None:
    broker = Broker()
    todo = batch(Rec(envelope(b'"%b"' % (b"x" * 100_000)), headers=[]))
    stage = stage_on(broker)
    await stage.finish(todo, await stage.answer(todo))
    assert broker.letters() == [("too_large", "", 0)]


async def test_an_unknown_reply_topic_delays_only_its_own_reply() -> None:
    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    nope = [("reply_to", b"rec-replies-nope"), ("correlation_id", b"2")]
    high = [
        ("kafka_replyTopic", b"rec-replies-p"),
        ("kafka_correlationId", b"3"),
        ("kafka_replyPartition", (7).to_bytes(4, "big")),
    ]
    told, list_topics = asyncio.Event(), broker.list_topics

    async def told_late() -> dict[str, int]:
        await told.wait()
        return await list_topics()

    broker.list_topics = told_late  # type: ignore[method-assign]
    stage = stage_on(broker)
    todo = batch(
        Rec(body(), headers=nope), Rec(body(), headers=high), Rec(body(n=0), headers=nope), Rec(body())
    )
    sent = await stage.answer(todo)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(broker.of("rec-replies-p")) == 1
    assert [reply.delivery.done() for reply in sent].count(False) == 3, "nobody has said which topics exist"
    told.set()
    await stage.finish(todo, sent)
    assert sorted(broker.letters()) == [
        ("invalid_field", "n", 2),
        ("reply_undeliverable", "reply_to", 0),
        ("reply_undeliverable", "reply_to", 1),
    ]
    assert len(broker.of("impressions")) == 1, "a list that reached nobody was not shown"


async def test_a_refused_reply_is_a_dead_letter_of_its_request() -> None:
    broker = Broker(rec_replies_p=1)
    broker.fails = KafkaTimeoutError()
    stage = stage_on(broker)
    todo = batch(Rec(body()))
    await stage.finish(todo, await stage.answer(todo))
    assert broker.letters() == [("reply_undeliverable", "reply_to", 0)]


async def test_missing_topics_are_remembered_for_a_while() -> None:
    broker, now = Broker(), [0.0]
    sender: Any = broker

    def clock() -> float:
        now[0] += 0.02
        return now[0]

    replies = ReplySender(sender, clock)

    async def outcome() -> str:
        try:
            await replies.send("rec-replies-late", None, None, b"{}", [])
        except RejectedError as exc:
            return exc.reason
        return "sent"

    assert await outcome() == "reply_undeliverable"
    asked = broker.listings
    broker.topics["rec-replies-late"] = 1
    assert await asyncio.gather(*(outcome() for _ in range(5))) == ["reply_undeliverable"] * 5
    assert broker.listings == asked
    now[0] += MISSING_S
    assert await asyncio.gather(*(outcome() for _ in range(50))) == ["sent"] * 50
    assert broker.listings == asked + 1, "everybody shares one question"


async def test_a_topic_that_was_just_made_is_waited_for() -> None:
    broker = Broker()
    sender: Any = broker
    sending = ReplySender(sender, lambda: 0.0).send("rec-replies-new", None, None, b"{}", [])
    while broker.listings < 2:
        await asyncio.sleep(0)
    broker.topics["rec-replies-new"] = 1
    await sending
    assert len(broker.of("rec-replies-new")) == 1


def test_only_dead_letters_have_room_for_more_than_a_record() -> None:
    settings = Settings(max_message_bytes=100_000)
    limits = {
        spec.name: int(spec.config(settings)["max.message.bytes"])
        for spec in Topics(settings).specs(settings)
    }
    roomy = limits.pop("dead-letters")
    topics = Topics(settings)
    asked = {topics.requests, topics.bulk_requests}
    public = {topics.events, topics.items, topics.users, topics.replies, *asked}
    assert {limits.pop(name) for name in public} == {100_000}
    assert set(limits.values()) == {4 * 1024 * 1024}, "our own records have the size that they have"
    assert roomy == 100_000 + 128 * 1024 == BatchSender(settings).max_bytes


@pytest.mark.parametrize(
    ("max_bytes", "takes", "key", "kept"),
    [
        (1 << 20, 1 << 20, b"k", {"origin-body-dropped": None, "origin-key-dropped": None}),
        (50_000, 1 << 20, b"k", {"origin-body-dropped": b"60000", "origin-key-dropped": None}),
        (1 << 20, 50_000, b"k", {"origin-body-dropped": b"60000", "origin-key-dropped": None}),
        (1 << 20, 50_000, b"k" * 55_000, {"origin-body-dropped": b"60000", "origin-key-dropped": b"55000"}),
    ],
    ids=["fits", "too large for us", "refused by the broker", "with its key"],
)
async def test_a_letter_that_is_refused_goes_without_its_body(
    max_bytes: int, takes: int, key: bytes, kept: dict[str, bytes | None]
) -> None:
    sender: Any = Broker(max_bytes, takes)
    wiring = Wiring(Settings(), sender, sender, MemoryStore())
    large, small = Rec(b"x" * 60_000, key), Rec(b"y")
    error = RejectedError("too_large", "", "")
    await wiring.bury("test", batch(large, small), [(large, error), (small, error)])
    letters = {dict(r[3])["origin-offset"]: r for r in sender.of("dead-letters")}
    assert set(letters) == {b"0", b"1"}
    headers = dict(letters[b"0"][3])
    assert {name: headers.get(name) for name in kept} == kept
    assert letters[b"1"][1] == b"y"
    assert letters[b"0"][1] == (b"" if kept["origin-body-dropped"] else large.value)


async def test_a_bad_model_after_a_good_one_in_a_batch() -> None:
    learner, rng = OnlineLearner(), np.random.default_rng(0)
    learner.learn(rng.random((500, len(SPEC))).astype(np.float32), rng.random((500, 3)) < 0.2)
    good = online.encode(learner.weights(), 1, {})[0]
    better = online.encode(learner.weights(), 2, {})[0]
    name = online.NAME.encode()
    stage = stage_on(Broker())
    await stage.on_models(batch(Rec(good, name), Rec(better, name), Rec(b"{}", name), Rec(None, name)))
    assert stage.recommender.online is not None
    assert stage.recommender.online.version == online.decode(better).version


async def test_a_reply_and_its_impression_name_the_settings_that_are_tried_on_the_user() -> None:
    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker, Settings(rules={"epsilon": "0", "welcome": "0", "fresh_share": "0"}))
    (one, base), (two, tried) = (tried_settings.encode(c, 1) for c in ({}, {"epsilon": "1"}))
    pointing = pointers.encode(Pointers(1, base, candidate=tried, share=50, rollout="x"))
    texts = Rec(one, SETTINGS.key(base)), Rec(two, SETTINGS.key(tried))
    await stage.on_models(batch(*texts, Rec(pointing, SETTINGS.pointers)))
    users = [f"u{n}" for n in range(30)]
    todo = batch(*(Rec(body(request_id=u, user_id=u), key=u.encode()) for u in users))
    await stage.finish(todo, await stage.answer(todo))
    replies = [msgspec.json.decode(r[1] or b"", type=RecReply) for r in broker.of("rec-replies-p")]
    shown = [msgspec.json.decode(r[1] or b"", type=Impression) for r in broker.of("impressions")]
    expected = {u: tried if arm_of(u, "x", 50) == CANDIDATE else base for u in users}
    assert {r.request_id: r.model and r.model.settings for r in replies} == expected
    assert {i.user_id: i.settings for i in shown} == expected
    assert {i.user_id: any(i.explored) for i in shown} == {u: v == tried for u, v in expected.items()}
    assert set(expected.values()) == {base, tried}


@pytest.mark.parametrize(
    ("ts", "reason"),
    [
        (NOW // 1000, "out_of_range"),
        (NOW - DAY_MS - 1, "out_of_range"),
        (NOW - DAY_MS, ""),
        (NOW + HOUR_MS, "from_the_future"),
    ],
)
async def test_the_time_asked_for_is_bounded(ts: int, reason: str) -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    todo = batch(Rec(body(context={"ts": ts})))
    await stage.finish(todo, await stage.answer(todo))
    assert broker.letters() == ([(reason, "context.ts", 0)] if reason else [])
    reply = msgspec.json.decode(broker.of("rec-replies-p")[0][1] or b"", type=RecReply)
    if reason:
        assert reply.error is not None
        assert (reply.error.code, reply.error.field) == (reason, "context.ts")
    else:
        assert reply.error is None


async def test_impressions_go_to_the_partition_of_their_user() -> None:
    """Also when the request, keyed by its user, was put elsewhere by another partitioner."""
    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    todo, stage = batch(Rec(body(), key=b"u"), partition=1), stage_on(broker)
    await stage.finish(todo, await stage.answer(todo))
    assert broker.keyed == ["impressions"]


def test_the_popular_list_honours_what_is_known_of_the_user() -> None:
    world = World(10)
    world.publish(item(20, blocked_countries=["DE"]))
    world.publish(item(21, min_age=18))
    for n in (1, 20, 21):
        world.click("other", n)
    for user, country, age in (("child", "FR", 12), ("german", "DE", 40), ("french", "FR", 40)):
        world.session(user, [1, 2])
        world.profile(user, country=country, age=age)
    now = NOW + HOUR_MS
    popular = world.recommender.popular

    def ids(user: str, **changes: Any) -> set[str]:
        answer = popular(request(user, n=30, **changes), now, "deadline", world.row(user))
        return {i.item_id for i in answer.reply.items if "repeated" not in i.sources}

    rest = {f"i{n}" for n in range(10)}
    assert ids("nobody") == rest
    assert ids("french") == rest - {"i1", "i2"} | {"i20", "i21"}
    assert ids("child") == rest - {"i1", "i2"} | {"i20"}
    assert ids("german") == rest - {"i1", "i2"} | {"i21"}
    assert "i20" in ids("german", context=here("FR")), "where the user is now counts more"
    assert popular(request("me", n=5), now, "x", world.row("french")).reply.degraded == ["x"]
    assert World().recommender.popular(request(), now, "x").reply.degraded == ["x", "candidates"]


async def test_the_list_of_a_missed_deadline_is_the_users() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    world = World(30)
    world.session("u", [1, 2, 3], start=NOW - 10_000)
    stage.recommender = world.recommender
    await stage.wiring.store.put("u", PackedRows.of([hash64("u")], [world.row("u").tobytes()]))
    todo = batch(Rec(body(deadline_ms=1, n=27), timestamp=NOW - 5000))
    await stage.finish(todo, await stage.answer(todo))
    reply = msgspec.json.decode(broker.of("rec-replies-p")[0][1] or b"", type=RecReply)
    assert reply.degraded == ["deadline"]
    assert {i.item_id for i in reply.items} & {"i1", "i2", "i3"} == set()


@pytest.mark.parametrize("url", ["h:6379", "redis://h:port/0", "redis://h/0?colour=blue", ""])
def test_a_wrong_redis_url(url: str) -> None:
    with pytest.raises(ConfigError, match="HEADRACE_REDIS_URL is wrong") as caught:
        RedisStore(Settings(redis_url=url))
    assert "\n" not in str(caught.value)
