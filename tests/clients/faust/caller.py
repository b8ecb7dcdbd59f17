"""A Faust caller for ``headrace conformance``. Arguments: the brokers and the reply topic."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from typing import Any

import faust
from faust.agents import Agent
from faust.agents.replies import ReplyConsumer
from faust.topics import Topic
from mode.utils.objects import cached_property

BROKERS, REPLIES = sys.argv[1:]


class ReplyTopic(Topic):
    """Passes over what is no reply: Faust's own consumer ends at such a record, and at a late reply."""

    async def on_key_decode_error(self, exc: Exception, message: Any) -> None:
        """Do nothing."""

    async def on_value_decode_error(self, exc: Exception, message: Any) -> None:
        """Do nothing."""


class Replies(ReplyConsumer):
    """Passes over replies without a value, and those to requests that have timed out."""

    async def _drain_replies(self, channel: Any) -> None:
        async for reply in channel.stream():
            if reply is not None:
                for promise in list(self._waiting.pop(reply.correlation_id, ())):
                    if not promise.done():
                        promise.fulfill(reply.correlation_id, reply.value)


class App(faust.App):
    """Reads replies in this way."""

    @cached_property
    def _reply_consumer(self) -> ReplyConsumer:
        return Replies(self, loop=self.loop, beacon=self.beacon)


app = App(
    f"asks-{REPLIES}",
    broker=[f"kafka://{broker}" for broker in BROKERS.split(",")],
    reply_to=REPLIES,
    reply_create_topic=True,  # listens from the start
    topic_disable_leader=True,
    web_enabled=False,
    Topic=ReplyTopic,
    datadir=tempfile.mkdtemp(prefix="faust-caller-"),
)
_agents: dict[str, Agent] = {}


def agent_of(topic: str) -> Agent:
    """Return what asks a topic; Agent(...) instead of @app.agent, which would consume the requests."""
    if topic not in _agents:
        channel = app.topic(topic, value_serializer="raw", key_serializer="raw")
        _agents[topic] = Agent(
            lambda stream: None, app=app, name=f"asks-{topic}", channel=channel, use_reply_headers=True
        )
    return _agents[topic]


async def ask(number: str, topic: str, timeout_ms: str, key: str, body: str) -> None:
    """Ask once; ask() has no timeout of its own."""
    try:
        reply = await asyncio.wait_for(
            agent_of(topic).ask(body.encode(), key=key.encode()), int(timeout_ms) / 1000
        )
        print(f"{number}\treply\t{json.dumps(reply)}", flush=True)
    except TimeoutError:
        print(f"{number}\ttimeout", flush=True)


async def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    # Started as a worker, it reads all partitions of its reply topic; a Faust that only asks reads one.
    await app.start()
    while not any(tp.topic == REPLIES for tp in app.consumer.assignment()):
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    asking = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        asking.add(asyncio.create_task(ask(*line.rstrip("\n").split("\t", 4))))
    await asyncio.gather(*asking)
    os._exit(0)  # a Faust client that stops waits for threads


asyncio.run(main())
