"""A reply is on its connection before further lists hold the event loop for long."""

from __future__ import annotations

import select
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection

from headrace.agents.stage.replies_out import TOGETHER_S, RepliesOut
from headrace.agents.wiring import Wiring
from headrace.serving.requests.address import ReplyAddress
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import SystemClock
from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender


class Stepped(SystemClock):
    """A clock that is moved by hand; no task runs meanwhile."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("list_s", "expected"),
    [(TOGETHER_S * 1.5, [1, 2, 3, 4, 5, 6]), (TOGETHER_S * 0.6, [2, 4, 6])],
    ids=["long-lists", "short-lists"],
)
async def test_replies_are_written_together_but_none_waits_for_long(
    topics_made: Settings,
    sender: BatchSender,
    monkeypatch: pytest.MonkeyPatch,
    list_s: float,
    expected: list[int],
) -> None:
    clock = Stepped()
    wired = Wiring(topics_made, sender, sender, MemoryStore(), clock=clock)
    written: list[int] = []
    asked: list[AIOKafkaConnection] = []
    made = 0
    send = AIOKafkaConnection.send

    def noted(self: AIOKafkaConnection, request: Any, *args: Any, **options: Any) -> Any:
        if type(request).__name__.startswith("ProduceRequest"):
            written.append(made)
            asked.append(self)
        return send(self, request, *args, **options)

    def wait_for_the_broker() -> None:
        """Hold the loop, as a list does, until the broker has answered what was written."""
        while asked:
            answers, _, _ = select.select([asked.pop()._writer.get_extra_info("socket")], [], [], 60)
            assert answers

    out, record = RepliesOut(wired, "recommend", "impressions"), object()
    address = ReplyAddress(wired.topics.events, b"1", "correlation_id", 0)
    await out.send(record, address, RecReply("0", [])).delivery
    await out.gone()
    monkeypatch.setattr(AIOKafkaConnection, "send", noted)
    sent = []
    for made in range(1, 7):
        sent.append(out.send(record, address, RecReply(str(made), [])))
        clock.now += list_s
        await out.give_way()
        wait_for_the_broker()
    for one in sent:
        await one.delivery
    assert written == expected
