"""The client when the broker goes away and comes back, and when its reply topic is made again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from fresh_topics import add_partitions, admin_of, make_topic

from headrace.demo.embedded import EmbeddedBroker
from headrace.serving.requests import link as link_module
from headrace.serving.requests.client import RecClient
from headrace.serving.requests.link import Link
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from ops.kafka.run import KafkaServer

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]


class Cluster:
    """A broker to be killed: the embedded one, which loses everything then, or a real Kafka."""

    def __init__(self, real: bool) -> None:
        self._server = KafkaServer() if real else EmbeddedBroker()
        self.keeps_data = real

    def start(self) -> None:
        self._server.start()

    def settings(self) -> Settings:
        """Return settings with topics of their own, none of which exists yet."""
        prefix = f"t{secrets.token_hex(4)}-"
        return Settings(brokers=self._server.address, fetch_max_wait_ms=100, topic_prefix=prefix)

    def kill(self) -> None:
        process = self._server._process
        assert process is not None
        process.kill()
        process.wait()

    def again(self) -> None:
        folder = self._server.data if isinstance(self._server, KafkaServer) else self._server._folder
        assert folder is not None
        self._server._launch(folder)

    def close(self) -> None:
        if isinstance(self._server, KafkaServer):
            self._server.close()
        else:
            self._server.stop()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(real=bool(os.environ.get("HEADRACE_TEST_BROKER")))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
async def settings(cluster: Cluster) -> Settings:
    """Settings of an installation that has only its request topic."""
    settings = cluster.settings()
    await make_topic(settings, settings.name("rec-requests"), 1)
    return settings


@contextlib.asynccontextmanager
async def responder(settings: Settings) -> AsyncIterator[None]:
    """Answer requests with the user's id as the request id, from now on; "silent" gets no answer."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.brokers)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers)
    await consumer.start()
    await producer.start()
    tp = TopicPartition(settings.name("rec-requests"), 0)
    consumer.assign([tp])
    await consumer.seek_to_end(tp)

    async def answer() -> None:
        while True:
            record = await consumer.getone()
            headers = dict(record.headers)
            if record.key == b"silent":
                continue
            body = msgspec.json.encode(RecReply((record.key or b"").decode()))
            reply = [("correlation_id", headers["correlation_id"])]
            await producer.send_and_wait(headers["reply_to"].decode(), body, headers=reply)

    task = asyncio.create_task(answer())
    try:
        yield
    finally:
        task.cancel()
        await consumer.stop()
        await producer.stop()


def request(user: str) -> RecRequest:
    return RecRequest("r", user, "home")


def left_open() -> tuple[int, int]:
    """Return the number of sockets and of threads of this process."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(link.readlink()).startswith("socket:")
    return count, threading.active_count()


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def works(client: RecClient, user: str) -> bool:
    try:
        return (await client.recommend(request(user), 3.0)).request_id == user
    except (UnavailableError, TimeoutError):
        return False


async def test_a_broker_that_is_killed_and_started_again(
    settings: Settings, cluster: Cluster, eventually: Eventually
) -> None:
    async with RecClient(settings, "shop") as client:
        async with responder(settings):
            await eventually(lambda: works(client, "before"), 20)
        waiting = asyncio.create_task(client.recommend(request("silent"), 3.0))
        await eventually(lambda: client.pending == 1)
        cluster.kill()
        with pytest.raises((TimeoutError, UnavailableError), match=r"within 3 s|not taken"):
            await waiting
        with pytest.raises(
            UnavailableError, match=r"no broker took the request within 0\.3 s|no Kafka broker"
        ):
            await client.recommend(request("lost"), 0.3)

        async def refused_at_once() -> bool:
            began = time.monotonic()
            with contextlib.suppress(UnavailableError):
                await client.recommend(request("lost"), 1.0)
            return time.monotonic() - began < 0.5

        await eventually(refused_at_once, 20)
        with pytest.raises(UnavailableError, match="no Kafka broker answers at 127"):
            await client.recommend(request("lost"))
        assert client.pending == 0
        cluster.again()
        if not cluster.keeps_data:
            await make_topic(settings, settings.name("rec-requests"), 1)
        async with responder(settings):
            await eventually(lambda: works(client, "after"), 30)
            replies = await asyncio.gather(*(client.recommend(request(f"u{n}"), 60) for n in range(100)))
            assert [r.request_id for r in replies] == [f"u{n}" for n in range(100)]


async def test_a_broker_that_is_away_for_a_moment(
    settings: Settings, cluster: Cluster, eventually: Eventually
) -> None:
    async with RecClient(settings, "shop") as client:
        cluster.kill()
        cluster.again()
        if not cluster.keeps_data:
            await make_topic(settings, settings.name("rec-requests"), 1)
        async with responder(settings):
            await eventually(lambda: works(client, "after"), 30)


async def test_a_reply_topic_that_is_deleted_is_made_again(
    settings: Settings, eventually: Eventually
) -> None:
    async with RecClient(settings, "shop") as client, responder(settings):
        for n in range(5):
            await eventually(lambda n=n: works(client, f"u{n}"), 20)
        async with admin_of(settings.brokers) as admin:
            await admin.delete_topics([client.reply_topic])
        await eventually(lambda: works(client, "after"), 40)
        assert (await client.recommend(request("v"), 10)).request_id == "v"


async def test_a_reply_topic_made_again_by_somebody_else_with_more_partitions(
    settings: Settings, eventually: Eventually
) -> None:
    async with RecClient(settings, "shop") as client, responder(settings):
        for n in range(20):
            await eventually(lambda n=n: works(client, f"u{n}"), 20)
        async with admin_of(settings.brokers) as admin:
            await admin.delete_topics([client.reply_topic])
            await eventually(lambda: _gone(admin, client.reply_topic))
        await make_topic(settings, client.reply_topic, 3)
        async with admin_of(settings.brokers) as admin:
            (made,) = await admin.describe_topics([client.reply_topic])
        if len(made["partitions"]) < 3:  # on a slow machine the client was quicker
            await add_partitions(settings, client.reply_topic, 3)
        await eventually(lambda: _all_work(client, 12), 40)


async def _gone(admin: object, topic: str) -> bool:
    return topic not in await admin.list_topics()  # type: ignore[attr-defined]


async def _all_work(client: RecClient, count: int) -> bool:
    return all(await asyncio.gather(*(works(client, f"w{n}") for n in range(count))))


async def test_partitions_added_to_the_reply_topic_are_read(
    settings: Settings, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "METADATA_MS", 500)
    async with RecClient(settings, "shop") as client:
        await add_partitions(settings, client.reply_topic, 3)
        async with responder(settings):
            await eventually(lambda: _all_work(client, 12), 20)


async def test_a_reader_that_ended_is_started_again(settings: Settings, eventually: Eventually) -> None:
    async with RecClient(settings, "shop") as client, responder(settings):
        for part in ("reader", "producer"):
            await eventually(lambda: works(client, "before"), 20)
            first = client._link
            assert first is not None
            assert first._consumer is not None
            assert first._producer is not None
            if part == "reader":
                first._consumer._fetcher.error_future.cancel()
            else:
                first._producer._sender.sender_task.cancel()
            await eventually(lambda first=first: client._link is not first and not client._trouble, 20)
            await eventually(lambda: works(client, "after"), 20)


@pytest.mark.parametrize("brokers", ["127.0.0.1:1", "nobody.invalid:9092"])
async def test_a_start_without_a_broker_leaves_nothing(brokers: str, eventually: Eventually) -> None:
    client = RecClient(Settings(brokers=brokers))
    with pytest.raises(UnavailableError, match="no Kafka broker answers"):  # the resolver's thread stays
        await client.start()
    before = left_open()
    for _ in range(3):
        with pytest.raises(UnavailableError, match="no Kafka broker answers"):
            await client.start()
    await eventually(lambda: not others() and left_open()[0] <= before[0])
    with pytest.raises(HeadraceError, match="is not started"):
        await client.recommend(request("u"))


async def test_a_reply_topic_that_cannot_be_made_leaves_nothing(
    settings: Settings, eventually: Eventually
) -> None:
    client = RecClient(settings, "wrong name!")
    before = left_open()
    with pytest.raises(UnavailableError, match="rec-replies-wrong name!"):
        await client.start()
    await eventually(lambda: not others() and left_open() == before)


async def test_a_start_that_is_cancelled_leaves_nothing(settings: Settings, eventually: Eventually) -> None:
    before = left_open()
    for rounds in range(0, 400, 20):
        client = RecClient(settings, "shop")
        task = asyncio.create_task(client.start())
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if not task.cancelled():
            await client.stop()
    await eventually(lambda: not others() and left_open()[0] <= before[0])


@pytest.mark.parametrize("late", [False, True], ids=["in-its-last-step", "after-its-last-step"])
async def test_a_start_that_is_cancelled_when_it_is_connected_leaves_nothing(
    settings: Settings, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    before = left_open()
    client = RecClient(settings, "shop")
    connect = Link.open

    async def opened(self: Link, positions: Mapping[int, int] | None = None) -> None:
        await connect(self, positions)
        if late:
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()

    monkeypatch.setattr(Link, "open", opened)
    task = asyncio.create_task(client.start())
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not others() and left_open()[0] <= before[0])


async def test_stop_at_any_moment_and_twice(settings: Settings, eventually: Eventually) -> None:
    before = left_open()
    client = RecClient(settings, "shop")
    await client.stop()
    for rounds in range(0, 400, 20):
        starting = asyncio.create_task(client.start())
        for _ in range(rounds):
            await asyncio.sleep(0)
        await asyncio.gather(client.stop(), client.stop())
        with contextlib.suppress(HeadraceError):
            await starting
        await client.stop()
    await eventually(lambda: not others() and left_open()[0] <= before[0])
    with pytest.raises(HeadraceError, match="was stopped"):
        await client.recommend(request("u"))


async def test_a_client_that_was_stopped_can_be_started_again(
    settings: Settings, eventually: Eventually
) -> None:
    async with responder(settings):
        client = RecClient(settings, "shop")
        for n in range(2):
            await client.start()
            with pytest.raises(HeadraceError, match="started already"):
                await client.start()
            await eventually(lambda n=n: works(client, f"u{n}"), 20)
            await client.stop()


async def test_stop_while_the_broker_is_away(
    settings: Settings, cluster: Cluster, eventually: Eventually
) -> None:
    before = left_open()
    client = await RecClient(settings, "shop").start()
    cluster.kill()
    try:
        await _stopped_in_time(client, eventually)
        await eventually(lambda: not others() and left_open()[0] <= before[0])
    finally:
        cluster.again()


async def _stopped_in_time(client: RecClient, eventually: Eventually) -> None:
    waiting = [asyncio.create_task(client.recommend(request(f"u{n}"), 30)) for n in range(3)]
    await eventually(lambda: client.pending == 3)
    began = time.monotonic()
    await client.stop()
    assert time.monotonic() - began < 5
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in done)


async def test_a_broker_that_answers_nothing_is_not_waited_for_at_the_stop() -> None:
    """Something listens at the address and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = RecClient(Settings(brokers=f"127.0.0.1:{server.getsockname()[1]}"))
        starting = asyncio.create_task(client.start())
        for _ in range(50):
            await asyncio.sleep(0)
        began = time.monotonic()
        await client.stop()
        assert time.monotonic() - began < 5
        with pytest.raises(HeadraceError, match="was stopped"):
            await starting
