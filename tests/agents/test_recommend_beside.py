"""What goes on beside a list: its time, its impression, what the user was shown before."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from serve_stage import NOW, Broker, Rec, batch, body, stage_on

from headrace.models.state.shown import ShownState
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import HOUR_MS
from headrace.streams.tables.rows import PackedRows


async def test_callers_with_slow_clocks_do_not_set_the_popular_lists_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = stage_on(Broker(rec_replies_p=1))
    ticks: list[int] = []
    monkeypatch.setattr(stage.recommender, "tick", ticks.append)
    for timestamp in (NOW - 5000, NOW - 3 * HOUR_MS, NOW - 1000, NOW + HOUR_MS):
        await stage.answer(batch(Rec(body(), timestamp=timestamp)))
    assert ticks == [NOW - 5000, NOW - 5000, NOW - 1000, NOW], "nor does one of the future move them ahead"


async def test_errors_beside_the_list_do_not_cost_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker)
    monkeypatch.setattr(stage.recommender, "tick", fails)
    monkeypatch.setattr(stage.recommender.pipeline, "shown", fails)
    todo = batch(Rec(body()), Rec(body()))
    await stage.finish(todo, await stage.answer(todo))
    replies = [msgspec.json.decode(r[1] or b"", type=RecReply) for r in broker.of("rec-replies-p")]
    assert [len(reply.items) for reply in replies] == [3, 3]
    assert broker.of("impressions") == []


async def test_what_was_shown_rests_in_the_agent_too() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    state = ShownState()
    first = hash_many([f"i{n}" for n in range(20)])
    state.apply(hash_many(["u"]), np.array([20]), first, np.array([NOW - 1000]), np.array([0]))
    row = state.table.data[state.table.row(hash64("u"))]
    await stage.wiring.store.put("s", PackedRows.of([hash64("u")], [row.tobytes()]))
    todo = batch(Rec(body(n=10)))
    await stage.finish(todo, await stage.answer(todo))
    reply = msgspec.json.decode(broker.of("rec-replies-p")[0][1] or b"", type=RecReply)
    assert {i.item_id for i in reply.items} == {f"i{n}" for n in range(20, 30)}
