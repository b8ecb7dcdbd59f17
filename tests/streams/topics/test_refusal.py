"""What brokers say, as one sentence for people."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import errors as kafka

from headrace.demo.embedded import free_port
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagReader
from headrace.streams.topics.refusal import or_hidden, refusal, unavailable, who

ME = Settings.model_construct(brokers="k:1", kafka_protocol="SASL_SSL", kafka_user="me")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (kafka.TopicAuthorizationFailedError({"b", "a"}), "not allowed for topic a, b"),
        (kafka.TopicAuthorizationFailedError("events"), "not allowed for topic events"),
        (kafka.TopicAuthorizationFailedError(), "not allowed for topic "),
        (kafka.GroupAuthorizationFailedError("g"), "not allowed for group g"),
        (kafka.ClusterAuthorizationFailedError(), "not allowed for the cluster"),
    ],
)
async def test_what_is_not_allowed(error: kafka.KafkaError, says: str) -> None:
    said = refusal(ME, error)
    assert said.startswith(f"Kafka at k:1 refuses the user me: {says}")
    assert "`headrace acls`" in said
    assert str(await unavailable(ME, error)) == said


def test_other_errors_are_no_refusal() -> None:
    assert refusal(ME, kafka.KafkaConnectionError("gone")) == ""
    assert refusal(ME, ValueError()) == ""


def test_who() -> None:
    assert who(ME) == "the user me"
    assert (
        who(ME.model_copy(update={"kafka_protocol": "SSL", "kafka_cert_file": "c"}))
        == "this client certificate"
    )
    assert who(Settings.model_construct()) == "this client"


def test_what_may_be_hidden() -> None:
    assert or_hidden(ME) == ", or the user me may not see it"
    assert or_hidden(Settings.model_construct()) == ""


async def test_a_broker_that_is_down() -> None:
    settings = Settings(brokers=f"127.0.0.1:{free_port()}")
    said = str(await unavailable(settings, kafka.KafkaConnectionError("gone")))
    assert said == f"no Kafka broker answers at {settings.brokers}: KafkaConnectionError: gone"


async def test_a_listener_that_hangs_up() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        said = str(await unavailable(Settings(brokers=address), kafka.KafkaConnectionError("gone")))
    assert said == (f"no Kafka broker answers at {address}: it hangs up on HEADRACE_KAFKA_PROTOCOL=PLAINTEXT")


async def test_a_file_that_is_empty_for_a_moment_is_an_outage_and_no_end(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("open-sesame")
    how = {"kafka_protocol": "SASL_PLAINTEXT", "kafka_user": "me", "kafka_password_file": str(password)}
    settings = Settings(brokers=f"127.0.0.1:{free_port()}", **how)
    password.write_text("")
    async with LagReader(settings, answer_s=5) as reader:
        with pytest.raises(UnavailableError, match="is empty"):
            await reader.look()
    found = await unavailable(settings, kafka.KafkaConnectionError("gone"))
    assert "is empty" in str(found)


async def test_finding_out_why_takes_as_long_for_many_brokers() -> None:
    """They accept, and say nothing: as when their machines hang."""
    silent = await asyncio.gather(*(asyncio.start_server(_nothing, "127.0.0.1", 0) for _ in range(3)))
    ports = [server.sockets[0].getsockname()[1] for server in silent]
    brokers = ",".join(f"127.0.0.1:{port}" for port in ports)
    settings = Settings(brokers=brokers)
    connected.clear()
    found = await unavailable(settings, kafka.KafkaConnectionError("gone"))
    assert str(found) == f"no Kafka broker answers at {brokers}: KafkaConnectionError: gone"
    assert len(connected) == 1, "the time was over with the first"
    for server in silent:
        server.close()


connected: list[object] = []


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connected.append(writer)
    await reader.read()
    writer.close()
