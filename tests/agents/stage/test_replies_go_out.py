"""A reply is on its connection before the next list holds the event loop."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection

from headrace.agents.stage.replies_out import RepliesOut
from headrace.agents.wiring import Wiring
from headrace.serving.requests.address import ReplyAddress
from headrace.serving.store.memory import MemoryStore
from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender


async def test_every_reply_is_written_before_the_next_list_is_made(
    topics_made: Settings, sender: BatchSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    wired = Wiring(topics_made, sender, sender, MemoryStore())
    written: list[int] = []
    made = 0
    send = AIOKafkaConnection.send

    def noted(self: AIOKafkaConnection, request: Any, *args: Any, **options: Any) -> Any:
        if type(request).__name__.startswith("ProduceRequest"):
            written.append(made)
        return send(self, request, *args, **options)

    out, record = RepliesOut(wired, "recommend", "impressions"), object()
    address = ReplyAddress(wired.topics.events, b"1", "correlation_id", 0)
    await out.send(record, address, RecReply("0", [])).delivery
    monkeypatch.setattr(AIOKafkaConnection, "send", noted)
    sent = []
    for made in range(1, 6):
        sent.append(out.send(record, address, RecReply(str(made), [])))
        await out.gone()
        time.sleep(0.02)  # a list: longer than the broker takes
    for one in sent:
        await one.delivery
    assert written == [1, 2, 3, 4, 5]
