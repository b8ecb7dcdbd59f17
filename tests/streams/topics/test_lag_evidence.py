"""What is gathered about a lag: records that wait, leaders, dependencies that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from aiokafka import TopicPartition
from lag_causes import keys_of
from lag_rows import row

from headrace.demo.embedded import EmbeddedRedis, free_port
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.lag_evidence import (
    SAMPLE_PARTITIONS,
    dependencies,
    folder_wrong,
    key_text,
    redis_wrong,
    waiting,
    without_leader,
    worst_partitions,
)


def records(keys: list[bytes | None]) -> list[Any]:
    at_ms = now_ms() - 90_000
    return [SimpleNamespace(key=k, value=b"abc", offset=7 + n, timestamp=at_ms) for n, k in enumerate(keys)]


def test_a_sample_tells_its_first_record_its_top_key_and_what_is_misplaced() -> None:
    right, wrong = keys_of(2, 3), keys_of(1, 2)
    seen = waiting(records([right[0], right[1], right[1], right[2], *wrong, None]), 2, 4)
    assert (seen.records, seen.top_key, seen.top_count) == (7, right[1].decode(), 2)
    assert seen.misplaced == 3
    assert seen.first.startswith(f"offset 7, key {right[0].decode()}, 3 bytes, 9")
    keyless = waiting(records([None, None]), 2, 4)
    assert (keyless.top_key, keyless.top_count, keyless.misplaced) == (None, 0, 2)
    assert "no key" in keyless.first
    assert waiting(records(list(wrong)), 2, 0).misplaced == 0, "how many partitions there are is not known"


def test_a_key_is_shown_without_control_characters_and_not_without_end() -> None:
    assert key_text(b"user-1") == "user-1"
    assert key_text(b"\x1b[31m\xff\n") == "?[31m\\xff?"
    assert key_text(b"x" * 100) == "x" * 64 + "..."


def test_only_the_partitions_with_most_records_are_looked_at() -> None:
    rows = [row("ingest", n, n, 9.0) for n in range(10)]
    assert [r.partition for r in worst_partitions(rows)] == [9, 8, 7, 6]
    assert len(worst_partitions(rows)) == SAMPLE_PARTITIONS
    assert worst_partitions([row("ingest", 0, 0, 0.0)]) == []


def test_partitions_without_a_leader() -> None:
    told = [
        {
            "topic": "events",
            "partitions": [{"partition": 0, "leader": 1}, {"partition": 1, "leader": -1}],
        },
        {"topic": "users", "partitions": []},
    ]
    assert without_leader(told) == {TopicPartition("events", 1)}


@contextlib.asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[str]:
    """Yield the URL of a server that answers every line with the same bytes, or never."""
    hold = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer is None:
            await hold.wait()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    found = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with found:
        yield f"redis://127.0.0.1:{found.sockets[0].getsockname()[1]}/0"
        hold.set()


async def test_a_redis_that_answers_and_one_that_is_away(redis_url: str) -> None:
    assert await redis_wrong(Settings(redis_url=redis_url)) == ""
    away = Settings(redis_url=f"redis://127.0.0.1:{free_port()}")
    assert (await redis_wrong(away)).startswith("it does not answer: ")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("CONFIG", "SET", "maxmemory", "1000"), "it is full (1,000 bytes, maxmemory_policy noeviction)"),
        (("REPLICAOF", "127.0.0.1", "1"), "it is a replica"),
    ],
)
async def test_a_redis_that_takes_reads_and_no_writes(command: tuple[str, ...], said: str) -> None:
    server = EmbeddedRedis().start()
    try:
        client = redis.Redis.from_url(server.url)
        assert await redis_wrong(Settings(redis_url=server.url)) == ""
        client.execute_command(*command)
        assert (await redis_wrong(Settings(redis_url=server.url))).startswith(said)
        with pytest.raises(redis.RedisError):
            client.set("a", "b")
        client.close()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"+PONG\r\n", ""),
        (b"-NOAUTH Authentication required.\r\n", ""),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it answers -LOADING Redis is"),
        (b"", "it answers nothing"),
        (None, "it does not answer within 0.2 s"),
    ],
)
async def test_what_redis_answers(answer: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if answer is None:
        monkeypatch.setattr("headrace.streams.topics.lag_evidence.ANSWER_S", 0.2)
    async with server(answer) as url:
        found = await redis_wrong(Settings(redis_url=url))
    assert found.startswith(said)
    assert bool(found) == bool(said)


async def test_what_a_role_needs(make_settings: Any, tmp_path: Path) -> None:
    settings: Settings = make_settings(data_dir=tmp_path)
    assert [d.name for d in await dependencies(settings, "ingest")] == ["Redis"]
    assert [(d.name, d.wrong) for d in await dependencies(settings, "log")] == [
        (f"the folder of the log, {tmp_path}", "")
    ]
    assert await dependencies(settings, "learn") == []
    port = free_port()
    away = f"s3://bucket/log?endpoint_override=http://127.0.0.1:{port}"
    (store,) = await dependencies(make_settings(data_url=away), "log")
    assert (store.name, store.wrong) == (
        "the object store", f"nobody listens at 127.0.0.1:{port} (ConnectionRefusedError)",
    )  # fmt: skip


def test_a_folder_that_is_full_or_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_wrong(tmp_path) == ""
    assert folder_wrong(tmp_path / "elsewhere") == ""
    real = os.statvfs(tmp_path)
    full = SimpleNamespace(f_bavail=1, f_frsize=4096, f_flag=real.f_flag)
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    assert folder_wrong(tmp_path) == "its disk is full (4,096 bytes left)"
    monkeypatch.setattr(
        os, "statvfs", lambda _path: SimpleNamespace(f_bavail=10**9, f_frsize=4096, f_flag=os.ST_RDONLY)
    )
    assert folder_wrong(tmp_path) == "it cannot be written"
