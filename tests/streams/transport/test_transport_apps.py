"""The transport in any Faust app: a plain faust.App, the ``faust`` command, the web server, zombies."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter

import faust
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from faust.exceptions import ImproperlyConfigured
from fresh_topics import make_changelog, make_topics
from project import ROOT
from transport_worker import fill

from headrace.demo.embedded import free_port
from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.app import BatchApp, BatchTransport
from headrace.streams.transport.batches import batch_topic, durable
from headrace.streams.transport.fetching import PARTIAL_WAIT_MS

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=100)


async def committed(settings: Settings, group: str, topic: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        return {tp.partition: found.offset for tp, found in offsets.items() if tp.topic == topic}
    finally:
        await admin.close()


class PlainApp(faust.App):
    """A Faust app with the batch transport and nothing else of ours."""

    def _new_transport(self):
        return BatchTransport(self.conf.broker_consumer, self)


@pytest.mark.parametrize("kind", [PlainApp, BatchApp])
async def test_a_plain_faust_app_gets_batches(kind, topics_made, sender, eventually, tmp_path):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 10_000, partitions=1)
    await fill(sender, topics.users, 100, partitions=1)
    group = settings.name("plain")
    app = kind(group, broker=f"kafka://{settings.brokers}", datadir=str(tmp_path), web_enabled=False)
    sizes, single = [], []

    @app.agent(batch_topic(app, topics.events))
    async def in_bulk(stream):
        async for batch in durable(stream):
            sizes.append(len(batch))  # noqa: PERF401

    @app.agent(app.topic(topics.users, value_type=bytes, value_serializer="raw"))
    async def one_by_one(stream):
        async for value in stream:
            single.append(value)  # noqa: PERF401

    await app.start()
    try:
        await eventually(lambda: sum(sizes) == 10_000 and len(single) == 100, 20)
    finally:
        await app.stop()
    assert max(sizes) == 4000, "the default, without any settings of ours"
    assert await committed(settings, group, topics.events) == {0: 10_000}


async def test_options_of_a_batch_app(topics_made, sender, eventually, tmp_path):
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 1000, partitions=1)
    app = BatchApp(
        settings.name("options"), broker=f"kafka://{settings.brokers}", datadir=str(tmp_path),
        web_enabled=False, batch_max_records=70, fetch_max_wait_ms=30,
    )  # fmt: skip
    sizes = []

    @app.agent(batch_topic(app, topic))
    async def in_bulk(stream):
        async for batch in durable(stream):
            sizes.append(len(batch))  # noqa: PERF401

    await app.start()
    try:
        await eventually(lambda: sum(sizes) == 1000, 20)
        assert app.consumer._thread._consumer._fetcher._fetch_max_wait_ms in (PARTIAL_WAIT_MS, 30)
    finally:
        await app.stop()
    assert max(sizes) == 70


async def test_exactly_once_is_refused_instead_of_not_done(topics_made, tmp_path):
    app = BatchApp(
        "once", broker=f"kafka://{topics_made.brokers}", datadir=str(tmp_path), web_enabled=False,
        processing_guarantee="exactly_once",
    )  # fmt: skip
    with pytest.raises(ImproperlyConfigured, match="exactly_once"):
        _ = app.consumer


MODULE = """
from collections import Counter
{make}
clicks = app.Table("clicks", default=int, partitions=4)

@app.agent(batch_topic(app, {topic!r}))
async def count(stream):
    async for batch in durable(stream):
        for key, n in Counter(record.key.decode() for record in batch).items():
            clicks[key] += n

@app.agent(app.topic({single!r}, value_type=bytes, value_serializer="raw"))
async def one_by_one(stream):
    async for value in stream:
        seen.append(value)

seen = []

@app.page("/clicks/")
async def show(web, request):
    return web.json({{"clicks": dict(clicks.items()), "seen": len(seen)}})
"""
BATCH_APP = """
from headrace.streams.transport.app import BatchApp
from headrace.streams.transport.batches import batch_topic, durable
from headrace.streams.transport.fetching import PARTIAL_WAIT_MS
app = BatchApp({group!r}, broker={broker!r}, store="memory://", topic_partitions=4, datadir={folder!r})
"""
HEADRACE_APP = """
from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.transport.batches import batch_topic, durable
from headrace.streams.transport.fetching import PARTIAL_WAIT_MS
app = make_app(
    Settings(brokers={brokers!r}, topic_prefix={prefix!r}, web_port={port}, session_timeout_s=6), "cli",
    topic_allow_declare=True, topic_partitions=4,
)
"""


def page(port: int) -> dict:
    """Return what the worker's page shows; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/clicks/", timeout=2) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return {}


@pytest.mark.parametrize("make", [BATCH_APP, HEADRACE_APP], ids=["BatchApp", "make_app"])
async def test_the_faust_command_with_a_table_and_the_web_server(
    make, topics_made, sender, eventually, tmp_path
):
    settings, topics, port = topics_made, Topics(topics_made), free_port()
    group = settings.name("headrace-cli")
    made = make.format(
        group=group, broker=f"kafka://{settings.brokers}", folder=str(tmp_path / "data"), port=port,
        brokers=settings.brokers, prefix=settings.topic_prefix,
    )  # fmt: skip
    await make_changelog(settings, group, "clicks")
    (tmp_path / "shop.py").write_text(MODULE.format(make=made, topic=topics.events, single=topics.users))
    command = [sys.executable, "-m", "faust", "--workdir", str(tmp_path), "-A", "shop:app", "worker"]
    command += ["--web-host", "127.0.0.1", "--web-bind", "127.0.0.1", "--web-port", str(port), "-l", "warn"]
    expected = Counter()

    async def runs(records: int) -> None:
        """Start a worker, send records, and wait until its page counts them and all records before."""
        with (tmp_path / "output").open("wb") as output:
            worker = subprocess.Popen(
                command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT,
                env={"PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}", "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
        try:
            keys = [b"item-%d" % (n % 7) for n in range(records)]
            await sender.send_keyed(topics.events, [(key, b"{}", None, ()) for key in keys])
            await sender.send_keyed(topics.users, [(key, b"{}", None, ()) for key in keys[:50]])
            expected.update(key.decode() for key in keys)

            async def shown():
                assert worker.poll() is None, (tmp_path / "output").read_text()[-2000:]
                found = await asyncio.to_thread(page, port)
                return found.get("clicks") == dict(expected) and found.get("seen") == 50

            await eventually(shown, 40)
            worker.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.wait, 20)
        finally:
            worker.kill()
            worker.wait()

    await runs(3000)
    assert sum((await committed(settings, group, topics.events)).values()) == 3000
    await runs(1000)  # the table is recovered from its changelog, and counts on
    assert sum((await committed(settings, group, topics.events)).values()) == 4000


async def test_the_web_server_of_an_app_in_our_own_loop(make_settings, running, eventually):
    settings = make_settings(web_port=free_port())
    await make_topics(settings)
    app = make_app(settings, "web")

    @app.agent(batch_topic(app, Topics(settings).events))
    async def idle(stream):
        async for _ in durable(stream):
            pass

    @app.page("/clicks/")
    async def show(web, request):
        return web.json({"clicks": {"a": 1}})

    async def shown():
        return (await asyncio.to_thread(page, settings.web_port)) == {"clicks": {"a": 1}}

    async with running(app):
        await eventually(shown)
