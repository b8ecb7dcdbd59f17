"""A consumer whose connection does not close holds nobody up."""

from __future__ import annotations

import asyncio

import pytest

from headrace.streams.transport import closing
from headrace.streams.transport.closing import closed


class Consumer:
    def __init__(self, error: Exception | None = None) -> None:
        self.may_end, self.ended, self.error = asyncio.Event(), False, error

    async def stop(self) -> None:
        await self.may_end.wait()
        self.ended = True
        if self.error is not None:
            raise self.error


async def test_a_consumer_that_closes_is_waited_for() -> None:
    consumer = Consumer()
    consumer.may_end.set()
    await closed(consumer)
    assert consumer.ended
    broken = Consumer(OSError("no route"))
    broken.may_end.set()
    with pytest.raises(OSError, match="no route"):
        await closed(broken)


async def test_one_that_does_not_close_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "CLOSE_S", 0.01)
    consumer = Consumer()
    async with asyncio.timeout(20):
        await closed(consumer)
    assert not consumer.ended
    assert len(closing._closing) == 1
    consumer.may_end.set()
    while closing._closing:
        await asyncio.sleep(0)
    assert consumer.ended
