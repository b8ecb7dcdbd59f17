"""Our client for Python keeps the contract, and counts the one reply that comes late."""

from __future__ import annotations

import pytest
from installation import worker

from headrace.console.callers.caller import Outcome
from headrace.console.callers.run import all_results, chosen
from headrace.serving.requests.client import RecClient
from headrace.streams.settings import Settings

pytestmark = pytest.mark.broker


class OurCaller:
    """``RecClient``, for any request topic."""

    name = "headrace"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.client: RecClient | None = None

    async def start(self, replies: str) -> None:
        name = replies.removeprefix(self._settings.name("rec-replies-"))
        self.client = await RecClient(self._settings, name).start()
        assert self.client.reply_topic == replies

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        assert self.client is not None
        self.client._topics = {False: topic, True: topic}
        try:
            reply = await self.client.request(body.encode(), key.encode(), timeout_s=timeout_s)
        except TimeoutError:
            return Outcome("timeout")
        return Outcome("reply", reply.decode())

    async def stop(self) -> None:
        assert self.client is not None
        await self.client.stop()


async def test_our_client_keeps_the_contract(topics_made: Settings) -> None:
    caller = OurCaller(topics_made)
    async with worker(topics_made, ["serve"]):
        found = await all_results(topics_made, caller, chosen([]), timeout_s=20)
    assert len(found) == len(chosen([]))
    assert [(r.check.name, r.verdict, r.detail) for r in found if r.verdict != "ok"] == []
    assert caller.client is not None
    assert (caller.client.pending, caller.client.late) == (0, 1), "the one of the check `late`"
