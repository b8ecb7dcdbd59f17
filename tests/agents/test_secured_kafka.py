"""A real Kafka with TLS, SASL and ACLs: each role works with the rights that are printed for it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import Authority
from command_line import run_headrace
from fresh_topics import add_partitions, make_topics
from installation import ITEMS, dead_letters, now_ms, publish, until, worker
from secured_kafka import (
    ADMIN,
    IN_256,
    IN_CERTIFICATE,
    IN_PLAIN,
    IN_TOKEN,
    SECRET,
    SecuredKafka,
    allow,
    token,
    user_of,
)

from headrace.agents.roles import run_worker
from headrace.console.repartitioning.job import repartition
from headrace.demo.embedded import free_port
from headrace.demo.stack import environment
from headrace.models.state import users as user_state
from headrace.serving.requests.client import RecClient
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import HeadraceError, NoTopicError, UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.acls import commands, users
from headrace.streams.topics.admin import check_topics, inspect_topics
from headrace.streams.topics.flow import group_reads, roles
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with SecuredKafka(tmp_path_factory.mktemp("certificates")) as server:
        yield server


@pytest.fixture
async def shop(
    request: pytest.FixtureRequest, real_kafka: bool, redis_url: str, tmp_path: Path
) -> tuple[SecuredKafka, Settings]:
    """The broker, and settings of an installation there without security, with all topics and ACLs."""
    if not real_kafka:
        pytest.skip("the embedded broker has neither TLS nor ACLs: make test-kafka")
    kafka: SecuredKafka = request.getfixturevalue("kafka")
    settings = Settings(
        brokers=kafka.plain, redis_url=redis_url, topic_prefix=f"t{secrets.token_hex(4)}-", partitions=2,
        data_dir=tmp_path, session_timeout_s=6, redis_read_ms=2000, standby_replicas=0, snapshot_every_s=0,
        outcome_wait_ms=700, log_flush_s=0.3, publish_every_s=0.3, gateway_port=free_port(),
        monitor_port=free_port(), metrics_port=free_port(), canary_every_s=1, catalog_every_s=1,
    )  # fmt: skip
    await make_topics(settings)
    told = [c for user in users() for c in commands(user, settings, f"User:{user_of(user)}")]
    assert await allow(settings, told) > 100
    # The authorizer of a broker learns of them a moment later.
    await until(lambda: inspect_topics(of((kafka, settings), "operator")), lambda faults: not faults)
    return kafka, settings


def of(shop: tuple[SecuredKafka, Settings], user: str, **more: Any) -> Settings:
    """Return the settings of the installation as a user has them."""
    kafka, settings = shop
    return Settings(**(settings.model_dump() | kafka.as_user(user_of(user)) | more))


async def command(settings: Settings, *arguments: str) -> str:
    """Run a command with the settings in its environment, and return what it says; it must end well."""
    run = (sys.executable, "-c", "from headrace.console.main import main; main()", *arguments)
    done = await asyncio.create_subprocess_exec(
        *run, env=environment(settings), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    # What `ps` shows has no secrets.
    assert SECRET not in Path(f"/proc/{done.pid}/cmdline").read_text()
    said = (await done.communicate())[0].decode()
    assert done.returncode == 0, f"{arguments}: {said}"
    return said


async def _logged(settings: Settings) -> list[Path]:
    return list((settings.data_dir / f"{settings.topic_prefix}examples").rglob("*.parquet"))


async def test_each_role_works_with_the_rights_that_are_printed_for_it(
    shop: tuple[SecuredKafka, Settings], caplog: pytest.LogCaptureFixture
) -> None:
    settings, topics = shop[1], Topics(shop[1])
    sender = BatchSender(of(shop, "producer"))
    await sender.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(sender.stop)
        await publish(sender, topics.items, [(item.item_id, item) for item in ITEMS])
        for role in roles():
            measured = {"metrics_port": settings.metrics_port if role == "serve" else 0}
            await stack.enter_async_context(worker(of(shop, role, **measured), [role], within_s=60))
        clicks = [Event(f"e{n}", "click", "user-1", f"item-{2 * n + 1}", now_ms()) for n in range(5)]
        await publish(sender, topics.events, [("user-1", click) for click in clicks])
        store = RedisStore(settings)
        stack.push_async_callback(store.close)
        await until(
            lambda: store.get("u", [hash64("user-1")]),
            lambda rows: rows[0] is not None and unpack(rows, user_state.ROW)[0]["n_clicks"][0] == 5,
            timeout=60,
        )
        async with RecClient(of(shop, "caller"), "shop") as client:
            reply = await client.recommend(RecRequest("r1", "user-1", "home", n=5, deadline_ms=20_000), 30)
        assert reply.error is None
        assert len(reply.items) == 5
        # The canary goes on writing: the lag is never 0 everywhere.
        await until(
            lambda: lag(of(shop, "lag")),
            lambda rows: (
                {row.agent for row in rows} == set(group_reads())
                and all(row.held and row.seconds is not None for row in rows)
                and {row.agent for row in rows if row.committed > 0} >= set(group_reads())
            ),
            timeout=60,
        )
        await until(lambda: _logged(settings), bool, timeout=60)
        operator = of(shop, "operator")
        said = await asyncio.gather(
            command(of(shop, "lag"), "lag"),
            command(of(shop, "lag"), "why-lag", "--sample", "1"),
            # As the probes of ops/kubernetes ask: each role for its own group.
            *(command(of(shop, role), "lag", "--now", "--json", "--group", role) for role in group_reads()),
            command(of(shop, "caller"), "recommend", "user-1", "--timeout", "30"),
            command(operator, "topics", "create"),
            command(operator, "models", "list"),
            command(operator, "dead-letters", "list"),
            command(operator, "producers"),
        )
        async with httpx.AsyncClient(timeout=20) as http:
            for port, path in ((settings.metrics_port, "/metrics"), (settings.monitor_port, "/")):
                answer = await http.get(f"http://127.0.0.1:{port}{path}")
                assert answer.status_code == 200
                said.append(answer.text)
        assert [text for text in said if SECRET in text] == []
    assert await dead_letters(settings) == []
    told = caplog.text
    assert SECRET not in told
    assert "authoriz" not in told.lower(), [line for line in told.splitlines() if "authoriz" in line.lower()]


async def test_partitions_are_made_more_with_the_rights_that_are_printed_for_it(
    shop: tuple[SecuredKafka, Settings],
) -> None:
    settings, topics = shop[1], Topics(shop[1])
    sender, store = BatchSender(of(shop, "producer")), RedisStore(settings)
    names = [f"user-{n}" for n in range(20)]

    async def counted(per_user: int) -> None:
        await until(
            lambda: store.get("u", [hash64(name) for name in names]),
            lambda rows: (
                all(row is not None for row in rows)
                and set(unpack(rows, user_state.ROW)[0]["n_clicks"].tolist()) == {per_user}
            ),
            timeout=60,
        )

    async def click(number: int) -> None:
        clicks = [(name, Event(f"{name}-{number}", "click", name, "item-1", now_ms())) for name in names]
        await publish(sender, topics.events, clicks)

    await sender.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(sender.stop)
        stack.push_async_callback(store.close)
        await publish(sender, topics.items, [(item.item_id, item) for item in ITEMS])
        await click(1)
        async with contextlib.AsyncExitStack() as workers:
            for role in ("aggregate", "learn", "ingest"):  # the last one to start is the first to stop
                await workers.enter_async_context(worker(of(shop, role, metrics_port=0), [role], within_s=60))
            await counted(1)
            await until(
                lambda: lag(of(shop, "lag")), lambda rows: not any(row.records for row in rows), timeout=60
            )
        said = await command(of(shop, "repartition"), "repartition", "4")
        assert "ready" in said
        assert SECRET not in said
        await click(2)
        more: dict[str, Any] = {"partitions": 4, "metrics_port": 0}
        async with worker(of(shop, "ingest", **more), ["ingest"], within_s=60):
            await counted(2)
    assert await dead_letters(settings) == []


async def test_no_role_starts_once_the_first_topic_has_grown(shop: tuple[SecuredKafka, Settings]) -> None:
    """Each sees that topic with the rights that are printed for it, although not each uses it."""
    settings = shop[1]
    await add_partitions(settings, Topics(settings).item_events, 4)
    for role in group_reads():
        with pytest.raises(HeadraceError, match="item-events has 4 partitions, expected 2"):
            async with worker(of(shop, role, metrics_port=0), [role], within_s=60):
                pass


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("copies", r"-growing cannot be deleted: TopicAuthorizationFailedError 29 \(Delete;"),
        ("changelogs", r"Delete is not allowed for [^:]*user-state, [^:]*shown-state"),
    ],
)
async def test_partitions_do_not_begin_to_grow_without_the_right_to_delete(
    shop: tuple[SecuredKafka, Settings], without: str, said: str
) -> None:
    settings = shop[1]
    for told in commands("repartition", settings, f"User:{IN_256}"):
        less = ("-growing" in told) == (without == "copies")
        await allow(settings, [told.replace("--operation Delete ", "") if less else told])
    mine = Settings(**(settings.model_dump() | shop[0].as_user(IN_256, "SCRAM-SHA-256")))
    await until(lambda: inspect_topics(mine), lambda faults: not faults)

    async def refusal() -> str:
        with pytest.raises(HeadraceError) as refused:
            await repartition(mine, 4, lambda text: None)
        return str(refused.value)

    # The first to ask a new broker for a group may be told that it has no coordinator yet.
    await until(refusal, lambda text: re.search(said, text), timeout=60)
    assert await check_topics(settings) == []


async def test_a_role_with_the_user_of_another_role_is_refused(shop: tuple[SecuredKafka, Settings]) -> None:
    for role, other in (("ingest", "serve"), ("aggregate", "caller"), ("log", "ingest"), ("serve", "lag")):
        with pytest.raises(HeadraceError) as refused:
            async with worker(of(shop, other).model_copy(update={"data_dir": shop[1].data_dir}), [role]):
                pass
        text = str(refused.value)
        assert f"the user {user_of(other)} may not see it" in text, text
        assert SECRET not in text
    assert await lag(of(shop, "caller")) == []
    with pytest.raises(NoTopicError, match=r"or the user headrace-caller may not see it"):
        async with open_reader(of(shop, "caller"), [Topics(shop[1]).events]):
            pass


async def test_a_group_of_others_is_refused(shop: tuple[SecuredKafka, Settings]) -> None:
    """Somebody who may use the topics of a role, but not its group."""
    settings = shop[1]
    told = [c for c in commands("log", settings, f"User:{IN_256}") if "--group" not in c]
    await allow(settings, told)
    mine = Settings(**(settings.model_dump() | shop[0].as_user(IN_256, "SCRAM-SHA-256")))
    await until(lambda: inspect_topics(mine, {Topics(mine).examples}), lambda faults: not faults)
    with pytest.raises(HeadraceError) as refused:
        await asyncio.wait_for(run_worker(mine, ["log"]), 60)
    assert f"refuses the user {IN_256}: not allowed for group {settings.topic_prefix}headrace-log" in str(
        refused.value
    )


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-256", "token", "certificate", "locked key"])
async def test_every_way_in(way: str, shop: tuple[SecuredKafka, Settings], tmp_path: Path) -> None:
    """Each way to authenticate gives the rights of that user, to write and to read."""
    kafka, settings = shop
    file = tmp_path / "token"
    file.write_text(token(IN_TOKEN))
    user, how = {
        "PLAIN": (IN_PLAIN, kafka.as_user(IN_PLAIN, "PLAIN")),
        "SCRAM-SHA-256": (IN_256, kafka.as_user(IN_256, "SCRAM-SHA-256")),
        "token": (IN_TOKEN, kafka.with_token(file)),
        "certificate": (IN_CERTIFICATE, kafka.with_certificate(IN_CERTIFICATE)),
        "locked key": (IN_CERTIFICATE, kafka.with_certificate(IN_CERTIFICATE, password=SECRET)),
    }[way]
    mine = Settings(**(settings.model_dump() | how))
    await allow(settings, commands("operator", settings, f"User:{user}"))
    await until(lambda: inspect_topics(mine), lambda faults: not faults)
    sender, topic = BatchSender(mine), Topics(mine).events
    await sender.start()
    try:
        await sender.send_many(topic, [(b"u", b"{}", None, ())], partition=0)
    finally:
        await sender.stop()
    async with open_reader(mine, [topic], [0]) as reader:
        begins, ends = await reader.bounds()
    assert sum(ends.values()) - sum(begins.values()) == 1


async def test_a_token_is_read_again_for_each_connection(
    shop: tuple[SecuredKafka, Settings], tmp_path: Path
) -> None:
    kafka, settings = shop
    await allow(settings, commands("operator", settings, f"User:{IN_TOKEN}"))
    file = tmp_path / "token"
    file.write_text(token(IN_TOKEN, seconds=-3600))
    mine = Settings(**(settings.model_dump() | kafka.with_token(file)))
    with pytest.raises(UnavailableError, match="unknown user or wrong token"):
        await inspect_topics(mine)
    file.write_text(token(IN_TOKEN) + "\n")
    await until(lambda: inspect_topics(mine), lambda faults: not faults)
    file.unlink()
    with pytest.raises(UnavailableError, match=r"HEADRACE_KAFKA_TOKEN_FILE=.*token cannot be read"):
        await inspect_topics(mine)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "password": ({"kafka_password": f"{SECRET}-not"}, "unknown user or wrong password"),
    "user": ({"kafka_user": "nobody"}, "does not let the user nobody in by SCRAM-SHA-512"),
    "mechanism": ({"kafka_mechanism": "PLAIN"}, "unknown user or wrong password"),
    "authority": ({"kafka_ca_file": "other"}, "its certificate is not trusted: .*HEADRACE_KAFKA_CA_FILE"),
    "host": ({"brokers": "127"}, "IP address mismatch.* HEADRACE_KAFKA_CHECK_HOSTNAME=false"),
    "no certificate": ({"brokers": "ssl", "kafka_protocol": "SSL"}, "TLS .* fails: .*certificate"),
    "no SASL": ({"kafka_protocol": "SSL"}, "hangs up on HEADRACE_KAFKA_PROTOCOL=SSL"),
    "no TLS": ({"kafka_protocol": "PLAINTEXT"}, "hangs up on HEADRACE_KAFKA_PROTOCOL=PLAINTEXT"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_in_one_line_without_secrets(
    wrong: str,
    real_kafka: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if not real_kafka:
        pytest.skip("the embedded broker has no TLS: make test-kafka")
    kafka: SecuredKafka = request.getfixturevalue("kafka")
    change, says = WRONG[wrong]
    given = kafka.as_user(ADMIN) | change
    if given["kafka_protocol"] in ("SSL", "PLAINTEXT"):
        given = {k: v for k, v in given.items() if k not in ("kafka_user", "kafka_password")}
    if given["kafka_protocol"] == "PLAINTEXT":
        del given["kafka_ca_file"]
    elif given["kafka_ca_file"] == "other":
        given["kafka_ca_file"] = str(Authority(tmp_path, "other").ca)
    if given["brokers"] == "127":
        given["brokers"] = kafka.sasl.replace("localhost", "127.0.0.1")
    if given["brokers"] == "ssl":
        given["brokers"] = kafka.ssl
    for name, value in given.items():
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value)
    assert run_headrace(monkeypatch, "topics", "check") == 2
    out = capfd.readouterr()
    assert out.out == ""
    assert re.fullmatch(rf"headrace: .*{says}.*\n", out.err), out.err
    assert SECRET not in out.err
