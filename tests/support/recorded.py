"""Puts a recorded installation (``tests/upgrade/record.py``) into a broker and a data directory."""

from __future__ import annotations

import asyncio
import base64
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from fresh_topics import make_topics_of

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

RECORDED = Path(__file__).parents[1] / "upgrade" / "installation-0.1.0.xz"


def recorded(path: Path = RECORDED) -> Iterator[dict[str, Any]]:
    """Yield the lines of a recording."""
    with lzma.open(path, "rt") as lines:
        yield from map(json.loads, lines)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


async def put_back(settings: Settings, *, path: Path = RECORDED) -> None:
    """Make the recorded topics under the prefix of ``settings``, with their records, offsets and files.

    Records have the offsets and times that they had; gaps (of compaction) are closed by tombstones.
    """
    lines = list(recorded(path))
    topics = {line["topic"] for line in lines if "end" in line}
    specs = [
        s for s in Topics(settings).specs(settings) if s.name.removeprefix(settings.topic_prefix) in topics
    ]
    await make_topics_of(settings, specs)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, linger_ms=5, max_request_size=16_000_000)
    async with producer:
        where, following = ("", 0), 0
        sent: list[Any] = []
        for line in lines:
            if "end" in line:
                where, following = (settings.topic_prefix + line["topic"], line["partition"]), 0
            elif "at" in line:
                while following < line["at"]:  # a place that compaction or a control record has left empty
                    sent.append(await producer.send(where[0], None, key=b"gone", partition=where[1]))
                    following += 1
                headers = [(name, _bytes(value)) for name, value in line["headers"]]
                key, value = _bytes(line["key"]), _bytes(line["value"])
                sent.append(
                    await producer.send(
                        where[0], value, key, where[1], timestamp_ms=line["ts"], headers=headers
                    )
                )
                following += 1
        await asyncio.gather(*sent)
    await _commit(settings, [line for line in lines if "group" in line])
    for line in lines:
        if "file" in line:
            file = settings.data_dir / line["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_bytes(line["content"]) or b"")


async def _commit(settings: Settings, lines: list[dict[str, Any]]) -> None:
    for group in sorted({line["group"] for line in lines}):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.brokers,
            group_id=settings.topic_prefix + group,
            enable_auto_commit=False,
        )
        async with consumer:
            offsets = {
                TopicPartition(settings.topic_prefix + line["topic"], line["partition"]): OffsetAndMetadata(
                    line["offset"], ""
                )
                for line in lines
                if line["group"] == group and line["offset"] >= 0
            }
            if offsets:
                consumer.assign(list(offsets))
                await consumer.commit(offsets)
