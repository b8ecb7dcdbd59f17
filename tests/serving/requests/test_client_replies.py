"""Request and reply over topics: our client, a real Faust client, Spring's and plain headers by hand."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from project import ROOT

from headrace.serving.requests.address import allowed, format_reply, parse_reply_address, unwrap
from headrace.serving.requests.client import RecClient
from headrace.streams.app import make_app
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.schemas import ErrorInfo, RecItem, RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker


@pytest.fixture
def responder(topics_made, sender):
    """Return an app that answers every request with its user's id as the only item."""
    app = make_app(topics_made, "responder")
    decoder = msgspec.json.Decoder(RecRequest)

    @app.agent(batch_topic(app, Topics(topics_made).requests))
    async def answer(stream):
        async for batch in durable(stream):
            for record in batch:
                address = parse_reply_address(record.headers, record.value)
                if address is None or not allowed(
                    address.topic, topics_made.reply_topics, topics_made.topic_prefix
                ):
                    continue
                try:
                    request = decoder.decode(unwrap(record.value))
                except msgspec.MsgspecError as exc:
                    reply = RecReply("", error=ErrorInfo("invalid", str(exc), "n"))
                else:
                    if request.user_id == "silent":
                        continue
                    item = RecItem(request.user_id, 1.0, {}, ["test"], explored=False, propensity=1.0)
                    reply = RecReply(request.request_id, [item])
                topic, partition, key, value, headers = format_reply(address, msgspec.json.encode(reply))
                await sender.send_one(topic, value, key, partition, headers)

    return app


def request(n: int, user: str = "") -> RecRequest:
    return RecRequest(f"r{n}", user or f"user-{n}", "home")


async def test_every_caller_gets_its_own_reply(topics_made, responder, running):
    async with running(responder), RecClient(topics_made, "one") as one, RecClient(topics_made, "two") as two:
        replies = await asyncio.gather(*((one if n % 2 else two).recommend(request(n)) for n in range(200)))
        assert [(r.request_id, r.items[0].item_id) for r in replies] == [
            (f"r{n}", f"user-{n}") for n in range(200)
        ]
        assert one.pending == two.pending == 0


async def test_clients_sharing_a_reply_topic_do_not_mix_up(topics_made, responder, running):
    async with running(responder), RecClient(topics_made, "same") as a, RecClient(topics_made, "same") as b:
        replies = await asyncio.gather(*((a if n % 2 else b).recommend(request(n)) for n in range(50)))
    assert [r.request_id for r in replies] == [f"r{n}" for n in range(50)]


async def test_refusals_timeouts_and_bounds(topics_made, responder, running, eventually):
    async with running(responder), RecClient(topics_made, "c", max_pending=2) as client:
        reply = json.loads(await client.request(b'{"request_id":"r","user_id":"u","surface":"home","n":0}'))
        assert reply["error"]["field"] == "n"
        with pytest.raises(TimeoutError):
            await client.recommend(request(1, "silent"), timeout_s=0.2)
        assert client.pending == 0
        waiting = [asyncio.create_task(client.recommend(request(n, "silent"), timeout_s=5)) for n in range(2)]
        await eventually(lambda: client.pending == 2)
        with pytest.raises(HeadraceError, match="2 requests are waiting"):
            await client.recommend(request(3))
    for task in waiting:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_no_broker():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await RecClient(Settings(brokers="127.0.0.1:1")).start()


async def test_spring_and_plain_headers(topics_made, responder, running, sender):
    topics = Topics(topics_made)
    body = msgspec.json.encode(request(1))
    async with running(responder):
        consumer = AIOKafkaConsumer(bootstrap_servers=topics_made.brokers, auto_offset_reset="earliest")
        await consumer.start()
        consumer.assign([TopicPartition(topics.replies, p) for p in range(4)])
        spring_id = bytes(range(16))
        spring = [
            ("kafka_replyTopic", topics.replies.encode()),
            ("kafka_correlationId", spring_id),
            ("kafka_replyPartition", (3).to_bytes(4, "big")),
        ]
        plain = [("reply_to", topics.replies.encode()), ("correlation_id", b"p-1")]
        elsewhere = [("reply_to", topics.events.encode()), ("correlation_id", b"x")]
        for headers in (elsewhere, spring, plain):
            await (await sender.send_one(topics.requests, body, key=b"user-1", headers=headers))
        got = {}
        while len(got) < 2:
            record = await asyncio.wait_for(consumer.getone(), 5)
            got[record.headers[0][0]] = record
        await consumer.stop()
    record = got["kafka_correlationId"]
    assert (record.partition, record.headers) == (3, (("kafka_correlationId", spring_id),))
    assert json.loads(record.value)["request_id"] == "r1"
    record = got["correlation_id"]
    assert (record.key, record.headers) == (b"p-1", (("correlation_id", b"p-1"),))


FAUST_CALLER = """
import asyncio, sys
import faust

async def main(brokers, prefix, datadir):
    app = faust.App(
        prefix + "caller", broker="kafka://" + brokers, reply_to_prefix=prefix + "rec-replies-",
        reply_create_topic=True, web_enabled=False, topic_disable_leader=True, datadir=datadir,
    )
    topic = app.topic(prefix + "rec-requests", value_serializer="json")
    for in_headers in (True, False):
        agent = app.agent(topic, name=f"a{in_headers}", use_reply_headers=in_headers)(lambda stream: None)
        for n in range(3):
            request = {"request_id": f"{in_headers}{n}", "user_id": "faust", "surface": "home"}
            reply = await agent.ask(request, key=b"u")
            print(reply["request_id"], reply["items"][0]["item_id"], flush=True)

async def bounded():
    await asyncio.wait_for(main(*sys.argv[1:4]), 30)
    import os
    os._exit(0)  # stopping a Faust client is not what is tested

asyncio.run(bounded())
"""


async def test_a_faust_callers_ask_resolves(topics_made, responder, running, tmp_path):
    async with running(responder):
        caller = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FAUST_CALLER, topics_made.brokers, topics_made.topic_prefix, str(tmp_path),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ, cwd=ROOT,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(caller.communicate(), 35)
        finally:
            if caller.returncode is None:
                caller.kill()
    wanted = [f"{in_headers}{n} faust" for in_headers in (True, False) for n in range(3)]
    assert out.decode().splitlines() == wanted, err.decode()[-2000:]
