"""Reads the topics and the workers' output after a run: records, dead letters, replies, rebalances."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.dataset as ds
from aiokafka import AIOKafkaConsumer
from chaos_load import AGAIN, BAD, MARK
from chaos_plan import role_of

from headrace.models.learning.log_files import folder_of
from headrace.serving.requests.address import PLAIN_ID
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import read_dead_letter
from headrace.streams.topics.names import Topics

#: topic, partition, offset
Origin = tuple[str, int, int]

_ASSIGNED = re.compile(r"Assigned (\d+) partitions \(generation (\d+)\)")
_TROUBLE = re.compile(r" (ERROR|CRITICAL) (.*)$")
#: Longest wait for a record while the end offset says that there are more.
PATIENCE_S = 10.0


@dataclass(slots=True)
class Audit:
    """The records found in the topics."""

    events: int = 0
    again: int = 0
    bad: set[Origin] = field(default_factory=set)
    buried: dict[Origin, str] = field(default_factory=dict)  # -> agent and reason
    letters: int = 0
    asked: dict[bytes, int] = field(default_factory=dict)  # correlation id -> time (ms)
    asked_at: dict[bytes, Origin] = field(default_factory=dict)
    answered: dict[bytes, int] = field(default_factory=dict)
    replies: int = 0
    shown: set[str] = field(default_factory=set)  # requests with an impression
    labelled: set[str] = field(default_factory=set)  # requests with examples
    examples: set[tuple[int, int]] = field(default_factory=set)  # partition, offset
    logged: set[tuple[int, int]] = field(default_factory=set)

    def missing_letters(self) -> list[Origin]:
        """Return bad records without a dead letter."""
        return sorted(self.bad - self.buried.keys())

    def unexpected_letters(self) -> list[tuple[Origin, str]]:
        """Return dead letters about good records, except about requests whose reply was lost."""
        requests = set(self.asked_at.values())
        lost = {o for o, why in self.buried.items() if o in requests and "reply_undeliverable" in why}
        return sorted((o, w) for o, w in self.buried.items() if o not in self.bad and o not in lost)

    def unanswered(self) -> list[bytes]:
        """Return requests that got neither a reply nor a dead letter."""
        return sorted(i for i in self.asked if i not in self.answered and self.asked_at[i] not in self.buried)

    def unlabelled(self) -> list[str]:
        """Return requests whose lists were shown and never became examples."""
        return sorted(self.shown - self.labelled)

    def unlogged(self) -> list[tuple[int, int]]:
        """Return examples that are not in the Parquet log."""
        return sorted(self.examples - self.logged)

    def waits_ms(self) -> list[int]:
        """Return how long each answered request waited for its first reply, ascending."""
        return sorted(max(0, at - self.asked[i]) for i, at in self.answered.items() if i in self.asked)


async def audit(settings: Settings) -> Audit:
    """Read the public topics from beginning to end."""
    topics, found = Topics(settings), Audit()
    public = [topics.events, topics.users, topics.items, topics.requests]
    async for topic, partition, record in every_record(settings, public):
        origin = (topic, partition, record.offset)
        headers = dict(record.headers)
        mark = headers.get(MARK)
        if mark == BAD:
            found.bad.add(origin)
        if topic == topics.events:
            found.events += 1
            found.again += mark == AGAIN
        elif topic == topics.requests and PLAIN_ID in headers:
            found.asked[headers[PLAIN_ID]] = record.timestamp
            found.asked_at[headers[PLAIN_ID]] = origin
    async for _, _, record in every_record(settings, [topics.dead_letters]):
        letter = read_dead_letter(record)
        found.letters += 1
        found.buried[letter.topic, letter.partition, letter.offset] = (
            f"{letter.agent}: {letter.reason} {letter.field} {letter.detail}"
        )
    async for _, _, record in every_record(settings, [topics.replies]):
        found.replies += 1
        found.answered.setdefault(dict(record.headers).get(PLAIN_ID, b""), record.timestamp)
    decode = msgspec.json.Decoder(_Request).decode
    async for topic, partition, record in every_record(settings, [topics.impressions, topics.examples]):
        if topic == topics.impressions:
            found.shown.add(decode(record.value).request_id)
        else:
            found.labelled.add(decode(record.value).request_id)
            found.examples.add((partition, record.offset))
    folder = folder_of(settings)
    if folder.is_dir():
        columns = ds.dataset(folder, format="parquet", exclude_invalid_files=True).to_table(
            columns=["log_partition", "log_offset"]
        )
        found.logged.update(zip(*(column.to_pylist() for column in columns.columns), strict=True))
    return found


class _Request(msgspec.Struct):
    request_id: str


async def every_record(settings: Settings, names: Iterable[str]) -> AsyncIterator[tuple[str, int, Any]]:
    """Yield (topic, partition, record) of everything that is in some topics now.

    Uses aiokafka only, none of the code under test.
    """
    consumer = AIOKafkaConsumer(
        *names, bootstrap_servers=settings.brokers.split(","), group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        deadline = time.monotonic() + PATIENCE_S
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            fetched = await consumer.getmany(timeout_ms=500, max_records=20_000)
            if fetched:
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                raise UnavailableError(f"nothing more arrives of {', '.join(names)}")
            for tp, records in fetched.items():
                for record in records:
                    yield tp.topic, tp.partition, record
    finally:
        await consumer.stop()


def rebalances(logs: Iterable[Path]) -> dict[str, int]:
    """Return role -> distinct generations of its group, from the output of its workers."""
    seen: dict[str, set[str]] = {}
    for log in logs:
        text = log.read_text("utf-8", "replace")
        seen.setdefault(role_of(log.stem), set()).update(m[2] for m in _ASSIGNED.finditer(text))
    return {role: len(generations) for role, generations in sorted(seen.items())}


def troubles(logs: Iterable[Path]) -> Mapping[str, int]:
    """Return the errors in the workers' logs without numbers, and their counts; the most frequent first."""
    counts: Counter[str] = Counter()
    for log in logs:
        for line in log.read_text("utf-8", "replace").splitlines():
            if found := _TROUBLE.search(line):
                counts[f"{role_of(log.stem)}: {re.sub(r'[0-9]+', '#', found[2])[:140]}"] += 1
    return dict(counts.most_common())
