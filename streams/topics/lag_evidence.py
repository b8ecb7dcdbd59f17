"""Gathers what ``headrace why-lag`` judges: records that wait, leaders, dependencies. Writes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from headrace.streams.clock import now_ms
from headrace.streams.messages.formats.registry import Registry
from headrace.streams.secured import cluster_of, master_of, redis_tls, secret_of, sentinels_of
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_cause import Dependency, Waiting
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.refusal import unavailable
from headrace.streams.transport.fetching import ISOLATION, drain

#: Most records that are read of a partition, most partitions of a topic, longest time for reading them, s.
SAMPLE_RECORDS, SAMPLE_PARTITIONS, SAMPLE_S = 500, 4, 4.0
#: Longest wait for an answer of a dependency, s.
ANSWER_S = 2.0
#: A disk with less free space than this is full, bytes.
FULL_BYTES = 16 * 1024 * 1024
#: Longest text of a key that is shown.
KEY_CHARS = 64
#: Roles whose agents write to Redis, or read it. They go on without it.
WITH_REDIS = ("ingest", "aggregate", "serve")
#: Roles whose agents wait while the Parquet log cannot be written.
WITH_LOG = ("log",)
#: Roles whose agents wait while the registry does not answer, and an event has a schema that is not on disk.
WITH_EVENTS = ("ingest", "learn")


# -- Kafka


async def leaderless(settings: Settings, topics: Iterable[str]) -> set[TopicPartition]:
    """Return the partitions of topics that no broker leads.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        found = await admin.describe_topics(sorted(topics))
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await admin.close()
    return without_leader(found)


def without_leader(topics: Iterable[Mapping[str, Any]]) -> set[TopicPartition]:
    """Return the partitions that no broker leads, from the broker's description of topics. Pure."""
    return {
        TopicPartition(topic["topic"], part["partition"])
        for topic in topics
        for part in topic["partitions"]
        if part["leader"] < 0
    }


def worst_partitions(rows: Sequence[LagRow]) -> list[LagRow]:
    """Return the rows whose records are to be looked at: per group and topic those with most, a few. Pure."""
    out: dict[tuple[str, str], list[LagRow]] = {}
    for row in sorted(rows, key=lambda r: -r.records):
        chosen = out.setdefault((row.group, row.topic), [])
        if row.records and len(chosen) < SAMPLE_PARTITIONS:
            chosen.append(row)
    return [row for chosen in out.values() for row in chosen]


async def sample(settings: Settings, rows: Sequence[LagRow]) -> dict[tuple[str, str, int], Waiting]:
    """Read the first records that wait: (group, topic, partition) -> what they are.

    Bounded in records, partitions and time; what could not be read is missing.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    wanted = worst_partitions(rows)
    if not wanted:
        return {}
    consumer = AIOKafkaConsumer(
        **connection(settings), isolation_level=ISOLATION, enable_auto_commit=False,
        auto_offset_reset="earliest", fetch_max_wait_ms=100, max_partition_fetch_bytes=1024 * 1024,
    )  # fmt: skip
    until, out = time.monotonic() + SAMPLE_S, {}
    try:
        await consumer.start()
        for row in wanted:
            if time.monotonic() < until:
                read = await _read(consumer, row, until)
                if read:
                    count = len(consumer.partitions_for_topic(row.topic) or ())
                    out[row.group, row.topic, row.partition] = waiting(read, row.partition, count)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await consumer.stop()
    return out


async def _read(consumer: AIOKafkaConsumer, row: LagRow, until: float) -> list[Any]:
    tp = TopicPartition(row.topic, row.partition)
    consumer.assign([tp])
    consumer.seek(tp, row.end - row.records)
    found: list[Any] = []
    while len(found) < SAMPLE_RECORDS and time.monotonic() < until:
        for part in drain(consumer._fetcher, {tp}, SAMPLE_RECORDS - len(found)):
            found += part.records
            if part.position >= row.end:
                return found
        await asyncio.sleep(0.005)
    return found


def waiting(records: Sequence[Any], partition: int, partitions: int) -> Waiting:
    """Return what a sample of records is; ``partitions`` is 0 when it is not known. Pure."""
    keys = Counter(record.key for record in records if record.key is not None)
    top = keys.most_common(1)
    right = {key for key in keys if not partitions or right_partition(key, partitions) == partition}
    first = records[0]
    age_s = max(0.0, (now_ms() - first.timestamp) / 1000)
    size = len(first.value or b"")
    key = "no key" if first.key is None else f"key {key_text(first.key)}"
    return Waiting(
        len(records),
        key_text(top[0][0]) if top else None,
        top[0][1] if top else 0,
        sum(record.key not in right for record in records),
        f"offset {first.offset}, {key}, {size:,} bytes, {age_s:,.0f} s old",
    )


def key_text(key: bytes) -> str:
    """Return a key for people."""
    text = bytes(key).decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= KEY_CHARS else f"{shown[:KEY_CHARS]}..."


# -- dependencies


async def dependencies(settings: Settings, role: str) -> list[Dependency]:
    """Ask what the agents of a role need besides Kafka, from this machine."""
    out = []
    if role in WITH_REDIS:
        out.append(Dependency("Redis", await redis_wrong(settings)))
    if role in WITH_LOG:
        out.append(await _log_place(settings))
    if role in WITH_EVENTS and settings.registry_url:
        registry = Registry(settings, settings.data_dir)
        out.append(Dependency("the schema registry", await asyncio.to_thread(registry.wrong), holds=True))
    return out


async def redis_wrong(settings: Settings) -> str:
    """Return what is wrong with Redis, empty when it answers; with no more than Python."""
    parts = urlsplit(settings.redis_url)
    secure = None
    if parts.scheme == "rediss":
        secure = redis_tls(settings) or ssl.create_default_context()
    if settings.redis_cluster:
        return await _cluster_wrong(settings, secure)
    try:
        async with asyncio.timeout(ANSWER_S):
            if parts.scheme == "unix":
                path = unquote(parts.path)
                told = await _tell(settings, asyncio.open_unix_connection(path), "INFO")
            else:
                host, port = parts.hostname or "127.0.0.1", parts.port or 6379
                if settings.redis_sentinels:
                    host, port = await _master(settings, secure)
                told = await _tell(settings, asyncio.open_connection(host, port, ssl=secure), "INFO")
    except (OSError, EOFError, ValueError, TimeoutError) as exc:
        return _silent(exc)
    return told if isinstance(told, str) else takes_no_writes(told[0])


async def _cluster_wrong(settings: Settings, secure: ssl.SSLContext | None) -> str:
    """Return what is wrong with a Redis Cluster: what the first of its nodes says that answers."""
    wrong = ""
    for host, port in cluster_of(settings):
        try:
            async with asyncio.timeout(ANSWER_S):
                opened = asyncio.open_connection(host, port, ssl=secure)
                told = await _tell(settings, opened, "INFO", "CLUSTER INFO")
        except (OSError, EOFError, ValueError, TimeoutError) as exc:
            wrong = wrong or _silent(exc)
            continue
        if isinstance(told, str):
            return told
        info, state = told
        if state and "cluster_state:ok" not in state:
            return "the cluster is down: a part of its slots has no master that answers"
        return "" if "role:slave" in info else takes_no_writes(info)
    return wrong


def _silent(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return f"it does not answer within {ANSWER_S:g} s"
    return f"it does not answer: {getattr(exc, 'strerror', None) or exc}"


async def _tell(
    settings: Settings,
    opened: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    *questions: str,
) -> str | list[str]:
    """Return the answers of a server to ``INFO`` and the like, or what is wrong with it."""
    parts = urlsplit(settings.redis_url)
    user = settings.redis_user or unquote(parts.username or "")
    password = secret_of(settings, "redis_password") or unquote(parts.password or "")
    reader, writer = await opened
    try:
        if password:
            writer.write(_command("AUTH", *(word for word in (user, password) if word)))
            let_in = (await reader.readline()).decode("utf-8", "replace").strip()
            if let_in.startswith("-"):
                return f"it does not let us in: {let_in[1:]}"
        writer.write(_command("PING"))
        answer = (await reader.readline()).decode("utf-8", "replace").strip()
        told = []
        for question in questions:
            writer.write(_command(*question.split()))
            head = await reader.readline()
            text = await reader.readexactly(int(head[1:]) + 2) if head.startswith(b"$") else b""
            told.append(text.decode("utf-8", "replace"))
    finally:
        writer.close()
    # It lives, although it wants a password that this command was not given.
    return told if answer.startswith(("+", "-NOAUTH", "-NOPERM")) else f"it answers {answer or 'nothing'}"


async def _master(settings: Settings, secure: ssl.SSLContext | None) -> tuple[str, int]:
    """Ask Sentinel where the master is; raise ``OSError`` when none of them says it."""
    name, password = master_of(settings), secret_of(settings, "redis_sentinel_password")
    for host, port in sentinels_of(settings):
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=secure)
        except OSError:
            continue
        try:
            if password:
                writer.write(_command("AUTH", password))
                await reader.readline()
            writer.write(_command("SENTINEL", "get-master-addr-by-name", name))
            if (await reader.readline()).strip() == b"*2":
                _, found, _, number = [(await reader.readline()).decode().strip() for _ in range(4)]
                return found, int(number)
        finally:
            writer.close()
    raise OSError(f"no Sentinel of {settings.redis_sentinels} knows a master {name}")


def takes_no_writes(info: str) -> str:
    """Return why a Redis that answers takes no writes, from its ``INFO``; empty when it does. Pure."""
    told = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    if told.get("role") == "slave":
        return "it is a replica: it takes no writes"
    most = int(told.get("maxmemory", "0"))
    if most and int(told.get("used_memory", "0")) >= most and told.get("maxmemory_policy") == "noeviction":
        return f"it is full ({most:,} bytes, maxmemory_policy noeviction): it takes no writes"
    return ""


def _command(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return "".join([f"*{len(words)}\r\n", *parts]).encode()


async def _log_place(settings: Settings) -> Dependency:
    parts = urlsplit(settings.data_url)
    if parts.scheme == "s3":
        endpoint = dict(parse_qsl(parts.query)).get("endpoint_override", "")
        place = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        wrong = await _port_wrong(place.hostname, place.port or 443) if place.hostname else ""
        return Dependency("the object store", wrong, holds=True)
    folder = Path(unquote(parts.path)) if parts.scheme == "file" else settings.data_dir
    return Dependency(f"the folder of the log, {folder}", folder_wrong(folder), holds=True)


async def _port_wrong(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as exc:
        return f"nobody listens at {host}:{port} ({type(exc).__name__})"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""


def folder_wrong(folder: Path) -> str:
    """Return what is wrong with a folder of this machine; empty also when it is not here."""
    if not folder.is_dir():
        return ""  # on another machine it may be
    try:
        found = os.statvfs(folder)
    except OSError as exc:
        return f"it cannot be read: {exc.strerror}"
    if found.f_bavail * found.f_frsize < FULL_BYTES:
        return f"its disk is full ({found.f_bavail * found.f_frsize:,} bytes left)"
    if found.f_flag & os.ST_RDONLY or not os.access(folder, os.W_OK):
        return "it cannot be written"
    return ""
