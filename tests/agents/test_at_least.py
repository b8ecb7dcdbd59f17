"""A request that demands a state waits for it beside the others, and no longer than its deadline allows."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaTimeoutError
from prometheus_client import generate_latest
from scraped import Scraped
from serve_stage import NOW, Broker, Rec, batch, body, stage_on

from headrace.agents.recommend import ServeStage
from headrace.agents.stage import state_waits
from headrace.models.state import users as user_state
from headrace.serving.store.applied import Applied, Reached, encode
from headrace.streams.clock import settle
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import RecReply
from headrace.streams.tables.rows import PackedRows, RowTable
from headrace.streams.topics.sender import partition_of

OWN = partition_of(b"u", 4)


class Serving:
    """A serving stage, its clock, and the rows of `ingest`, of which it has heard a beat."""

    def __init__(self) -> None:
        self.broker = Broker(rec_replies_p=1)
        self.broker.known.add("rec-replies-p")
        self.stage: ServeStage = stage_on(self.broker)
        self.clock: Any = self.stage.wiring.clock
        self.store: Any = self.stage.wiring.store
        self.stage.freshness.known.users[OWN] = Applied()

    async def apply(self, offset: int, *clicks: str) -> None:
        table = RowTable(user_state.ROW, user_state.BLANK[()])
        rows = table.take([hash64("u")])
        table.data["offset"][rows], table.data["n_clicks"][rows] = offset, len(clicks)
        for n, item in enumerate(clicks):
            table.data["recent"][rows, n], table.data["recent_ts"][rows, n] = hash64(item), NOW
        packed: PackedRows = table.pack(rows)
        await self.store.put("u", packed)

    async def beat(self, **events: Any) -> None:
        await self.store.set_marks("u", dict.fromkeys(range(4), 0))
        await self.store.beat("u", range(4), {OWN: encode(Applied(Reached(**events)))})

    async def send(self, *records: Rec) -> asyncio.Task[None]:
        todo = batch(*records)
        sent = await self.stage.answer(todo)
        ending = asyncio.create_task(self.stage.finish(todo, sent))
        await settle()
        return ending

    def replies(self) -> dict[str, RecReply]:
        found = [msgspec.json.decode(r[1] or b"", type=RecReply) for r in self.broker.of("rec-replies-p")]
        assert len({reply.request_id for reply in found}) == len(found), "two replies to one request"
        return {reply.request_id: reply for reply in found}

    def waits(self) -> dict[str, float]:
        scraped = Scraped(generate_latest(self.stage.wiring.metrics.registry).decode())
        return {outcome: count for (outcome,), count in scraped.all("headrace_state_waits_total").items()}


def asked(name: str, offset: int | None = None, **more: Any) -> Rec:
    token = {} if offset is None else {"at_least": f"1.e{OWN}-{offset}"}
    return Rec(body(request_id=name, n=30, **token, **more))


async def test_a_reply_that_has_the_state_comes_at_once() -> None:
    serving = Serving()
    await serving.apply(7, "i3")
    await (await serving.send(asked("r", 7)))
    reply = serving.replies()["r"]
    assert "state" not in reply.degraded
    assert "repeated" in reply.items[-1].sources, "the list has seen the click"
    assert reply.items[-1].item_id == "i3"
    assert serving.waits() == {}


async def test_it_waits_for_the_click_and_delays_nobody() -> None:
    serving = Serving()
    await serving.apply(6)
    ending = await serving.send(asked("waits", 7), asked("other"), asked("old", 6))
    assert set(serving.replies()) == {"other", "old"}
    later = await serving.send(asked("next"))
    await later
    assert set(serving.replies()) == {"other", "old", "next"}
    assert not ending.done(), "the batch is not acknowledged before the last reply"
    await serving.apply(7, "i3")
    await serving.clock.advance(state_waits.LOOK_S)
    await ending
    reply = serving.replies()["waits"]
    assert "state" not in reply.degraded
    assert reply.items[-1].item_id == "i3"
    assert serving.replies()["other"].items[-1].item_id != "i3"
    assert serving.waits() == {"reached": 1}
    shown = [msgspec.json.decode(r[1] or b"")["request_id"] for r in serving.broker.of("impressions")]
    assert sorted(shown) == ["next", "old", "other", "waits"], "each list is logged once"


@pytest.mark.parametrize("deadline_ms", [100, 150, 1000, 60_000])
async def test_a_state_that_does_not_come_is_said_before_the_deadline(deadline_ms: int) -> None:
    serving = Serving()
    await serving.apply(6)
    ending = await serving.send(asked("r", 10**15, deadline_ms=deadline_ms))
    assert serving.replies() == {}
    longest = min(deadline_ms / 1000, state_waits.LONGEST_S + 0.1)
    while "r" not in serving.replies():
        assert serving.clock.monotonic() <= longest
        await serving.clock.advance(state_waits.LOOK_S)
    await ending
    reply = serving.replies()["r"]
    assert set(reply.degraded) == {"state", "ranker", "online"}
    assert len(reply.items) == 30, "a full list all the same"
    assert reply.took_ms < deadline_ms
    assert serving.waits() == {"over": 1}


async def test_without_time_it_is_said_at_once() -> None:
    serving = Serving()
    await (await serving.send(asked("r", 7, deadline_ms=15), asked("late", 7, deadline_ms=1)))
    assert all("state" in reply.degraded for reply in serving.replies().values())
    assert len(serving.replies()) == 2
    assert serving.waits() == {}


async def test_a_retry_is_known_by_the_beat() -> None:
    serving = Serving()
    await serving.apply(6)
    ending = await serving.send(asked("r", 7))
    assert serving.replies() == {}
    await serving.beat(last=7)
    await serving.clock.advance(state_waits.LOOK_S)
    await ending
    assert "state" not in serving.replies()["r"].degraded


async def test_a_row_that_is_lost_again_before_the_answer_is_said() -> None:
    serving = Serving()
    await serving.apply(6)
    ending = await serving.send(asked("r", 7), asked("s", 6))
    await serving.beat(last=7)
    read, reads = serving.store.get, 0

    async def older(kind: Any, keys: Any) -> Any:
        nonlocal reads
        reads += kind == "u"
        if kind == "u" and reads == 2:  # the row that the answer is made from
            await serving.apply(5)
        return await read(kind, keys)

    serving.store.get = older
    await serving.clock.advance(state_waits.LOOK_S)
    await ending
    assert "state" in serving.replies()["r"].degraded
    assert "state" not in serving.replies()["s"].degraded


async def test_a_worker_that_knows_no_beat_asks_for_one_and_names_what_it_has() -> None:
    """The topic was made again: a row's offset that is larger says nothing without the base."""
    serving = Serving()
    serving.stage.freshness.known.users.clear()
    await serving.apply(1005)
    ending = await serving.send(asked("r", 7))
    assert serving.replies() == {}
    await serving.beat(last=1005, base=1000)
    await serving.clock.advance(state_waits.LOOK_S)
    assert serving.replies() == {}
    await serving.apply(1007)
    await serving.clock.advance(state_waits.LOOK_S)
    await ending
    reply = serving.replies()["r"]
    assert "state" not in reply.degraded
    assert reply.state.startswith(f"1.e{OWN}-7.m")


async def test_a_page_says_it_in_every_list() -> None:
    serving = Serving()
    lists = [{"surface": "home", "n": 2}, {"surface": "digest", "n": 2}]
    await (await serving.send(asked("r", 7, lists=lists, deadline_ms=30)))
    reply = serving.replies()["r"]
    assert [("state" in one.degraded) for one in reply.lists] == [True, True]
    assert "state" in reply.degraded


async def test_when_redis_is_away_nobody_waits() -> None:
    serving = Serving()
    serving.store.away = True
    await (await serving.send(asked("r", 7)))
    assert {"user", "state"} <= set(serving.replies()["r"].degraded)


async def test_redis_may_go_away_while_requests_wait() -> None:
    serving = Serving()
    await serving.apply(6)
    ending = await serving.send(asked("r", 7))
    serving.store.away = True
    await serving.clock.advance(0.5)
    serving.store.away = False
    assert serving.replies() == {}
    await serving.apply(7)
    await serving.clock.advance(state_waits.LOOK_S)
    await ending
    assert "state" not in serving.replies()["r"].degraded


async def test_beats_that_hang_hold_nobody() -> None:
    serving = Serving()
    await serving.apply(6)

    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    serving.store.beats = hang
    ending = await serving.send(asked("r", 7), asked("s", 7))
    await serving.clock.advance(state_waits.LOOK_S)
    await serving.apply(7)
    await serving.clock.advance(state_waits.LONGEST_S)
    await asyncio.wait_for(ending, 30)
    assert len(serving.replies()) == 2


async def test_only_so_many_wait() -> None:
    serving = Serving()
    await serving.apply(6)
    names = [f"r{n:03}" for n in range(state_waits.MOST + 5)]
    ending = await serving.send(*(asked(name, 7) for name in names))
    assert sorted(serving.replies()) == names[state_waits.MOST :]
    assert all("state" in reply.degraded for reply in serving.replies().values())
    await serving.clock.advance(state_waits.LOOK_S)
    await serving.apply(7)
    await serving.clock.advance(state_waits.LOOK_S)
    assert len(serving.replies()) == 5, "looks are rarer when many wait"
    await serving.clock.advance(state_waits.LOOK_S * state_waits.MOST / state_waits.FEW)
    await ending
    assert len(serving.replies()) == len(names)
    assert sum("state" in reply.degraded for reply in serving.replies().values()) == 5


async def test_the_token_of_a_reply_can_be_demanded() -> None:
    serving = Serving()
    await serving.beat(last=7)
    await serving.stage.freshness.look()
    await serving.apply(7)
    await (await serving.send(asked("r")))
    token = serving.replies()["r"].state
    assert token.startswith(f"1.e{OWN}-7.m")
    await serving.apply(6)  # another worker reads a row from before
    ending = await serving.send(Rec(body(request_id="s", at_least=token)))
    assert "s" not in serving.replies()
    await serving.apply(8)
    await serving.clock.advance(state_waits.LOOK_S)
    await ending
    assert "state" not in serving.replies()["s"].degraded
    assert serving.replies()["s"].state.startswith(f"1.e{OWN}-8.m")


async def test_a_refused_reply_ends_its_request_only_when_what_was_shown_is_written() -> None:
    serving, let = Serving(), asyncio.Event()
    await serving.apply(6)
    ending = await serving.send(asked("r", 7))
    serving.broker.fails, write = KafkaTimeoutError(), serving.broker.send_keyed

    async def slow(topic: str, records: Any) -> None:
        if topic == "impressions":
            await let.wait()
        await write(topic, records)

    serving.broker.send_keyed = slow  # type: ignore[method-assign]
    await serving.apply(7)
    await serving.clock.advance(state_waits.LOOK_S)
    await settle()
    assert not ending.done()
    let.set()
    await ending
    assert len(serving.broker.of("impressions")) == 1
    assert [reason for reason, _, _ in serving.broker.letters()] == ["reply_undeliverable"]


async def test_a_bad_token_gets_an_error_that_names_it() -> None:
    serving = Serving()
    await (await serving.send(Rec(body(request_id="r", at_least="events.3.17"))))
    error = serving.replies()["r"].error
    assert error is not None
    assert (error.code, error.field) == ("invalid_field", "at_least")
    assert serving.broker.letters() == [("invalid_field", "at_least", 0)]


async def test_a_stop_ends_what_waits() -> None:
    serving = Serving()
    ending = await serving.send(asked("r", 7))
    ending.cancel()
    await settle()
    assert ending.cancelled()
    await serving.clock.advance(state_waits.LONGEST_S + 1)
    assert serving.replies() == {}, "its batch is delivered again"
