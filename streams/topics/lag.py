"""Computes the lag of every consumer group from the broker alone, so also when every worker is down.

The group of a role is ``<prefix>headrace-<role>``: only the groups of declared roles are looked at, because
the prefix of another installation may begin with ``<prefix>headrace-``. The lag follows from the committed
offsets and from the offsets of the topics. The declaration of the agents (``flow``) says which topics a group
reads, so a group that has committed nothing yet has rows too. Lag in seconds is the age of the first record
that is not committed.

A topic ends at its last stable offset: what belongs to an open transaction is not readable, so it is no lag.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from headrace.streams import clock
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.flow import group_reads
from headrace.streams.topics.lag_members import Members, members_of
from headrace.streams.topics.lag_verdict import Verdict
from headrace.streams.topics.names import Topics
from headrace.streams.topics.refusal import unavailable
from headrace.streams.transport.fetching import ISOLATION, drain

#: Longest time, by default, for reading the first uncommitted record of every partition.
PEEK_S = 3.0
#: Longest time for all the answers of one look.
ANSWER_S = 15.0
#: Longest time for closing the connections; a broker that hangs may take for ever.
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class LagRow:
    """The lag of one group in one partition.

    Attributes
    ----------
    group, agent
        Name of the group, and its role.
    topic, partition
        What it reads.
    committed
        Committed offset; -1 when there is none, then every record in the partition counts.
    end
        Offset after the last record that can be read.
    records
        Number of offsets from ``committed`` (or the first offset that exists, if later) to ``end``; 0 when no
        record is left there (markers and aborted transactions take offsets, too).
    seconds
        Age of the first record that is not committed; 0 without lag, None when it could not be read.
    deleted
        Number of offsets from ``committed`` to the first offset that exists: the broker deleted these records
        before the group read them. 0 when nothing was committed.
    held
        Whether a member of the group has the partition; None when the broker does not tell (a rebalance).
    member, host
        Id of that member, as in its log, and the address it comes from; None without one.
    trend
        By how many records a second the lag grows (below 0: shrinks); None after one look.
    verdict
        What is to be said of it; after one look, what that can tell.
    """

    group: str
    agent: str
    topic: str
    partition: int
    committed: int
    end: int
    records: int
    seconds: float | None
    deleted: int = 0
    held: bool | None = None
    member: str | None = None
    host: str | None = None
    trend: float | None = None
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Look:
    """What the broker told at one time.

    Attributes
    ----------
    at_s
        When the answers were there, s since the epoch.
    rows
        The lag of every group, sorted by group, topic and partition.
    written
        (partition, offset) -> timestamp (ms) of the first record there, of those that were read in this look.
    missing
        (role, topic) that a group should read and that does not exist.
    asked_s
        When the first question went out, s since the epoch: nothing in the look is older.
    """

    at_s: float
    rows: list[LagRow]
    written: Mapping[tuple[TopicPartition, int], int]
    missing: list[tuple[str, str]]
    asked_s: float


async def lag(settings: Settings, *, now_ms: int | None = None) -> list[LagRow]:
    """Return the lag of every group of this installation, sorted by group, topic and partition.

    Only groups that the broker knows are listed: those that have had a member.

    Parameters
    ----------
    now_ms
        Present time, ms since the epoch; by default the clock of this machine.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    async with LagReader(settings) as reader:
        return (await reader.look(now_ms=now_ms)).rows


class LagReader:
    """Looks at the lag, once or again and again, over the same connections.

    Parameters
    ----------
    answer_s
        Longest time, s, for connecting and for all the answers of a look.
    peek_s
        Of it, longest time for reading the first uncommitted record of every partition.
    """

    def __init__(self, settings: Settings, *, answer_s: float = ANSWER_S, peek_s: float = PEEK_S) -> None:
        self._settings, self._answer_s, self._peek_s = settings, answer_s, peek_s
        self._connected: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None

    async def __aenter__(self) -> Self:
        """Return the reader itself; it connects when it looks."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def look(
        self, *, now_ms: float | None = None, known: Container[tuple[TopicPartition, int]] = ()
    ) -> Look:
        """Look once.

        Parameters
        ----------
        now_ms
            Present time, ms since the epoch; by default the clock of this machine.
        known
            (partition, offset) whose timestamps are not to be read again; their seconds are None.

        Raises
        ------
        UnavailableError
            When no broker answers, or not in time. The next look connects again.
        """
        brokers = self._settings.brokers
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._look(*await self._connect(), now_ms, known)
        except TimeoutError as exc:
            await self.close()
            raise UnavailableError(
                f"the Kafka broker at {brokers} did not answer within {self._answer_s:g} s"
            ) from exc
        except (KafkaError, ConfigError) as exc:
            await self.close()
            raise await unavailable(self._settings, exc) from exc

    async def close(self) -> None:
        """Close the connections; a look opens them again."""
        connected, self._connected = self._connected, None
        if connected is None:
            return
        admin, consumer = connected
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await consumer.stop()
                await admin.close()

    async def _connect(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._connected is None:
            self._connected = (
                AIOKafkaAdminClient(**connection(self._settings)),
                AIOKafkaConsumer(
                    **connection(self._settings),
                    auto_offset_reset="earliest",
                    isolation_level=ISOLATION,
                    enable_auto_commit=False,
                    max_partition_fetch_bytes=64 * 1024,
                    fetch_max_wait_ms=100,
                ),
            )
            for client in self._connected:
                await client.start()
        return self._connected

    async def _look(
        self,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
        now_ms: float | None,
        known: Container[tuple[TopicPartition, int]],
    ) -> Look:
        settings, prefix = self._settings, self._settings.name("headrace-")
        asked = clock.now_ms() if now_ms is None else now_ms
        committed, members, missing = await _groups(admin, settings)
        tps = sorted({tp for offsets in committed.values() for tp in offsets})
        begins, ends = await _bounds(consumer, tps)
        waiting = {
            (tp, start)
            for offsets in committed.values()
            for tp, offset in offsets.items()
            if tp in ends and (start := max(offset, begins[tp])) < ends[tp] and (tp, start) not in known
        }
        written = await _timestamps(consumer, waiting, ends, self._peek_s)
        consumer.unsubscribe()  # between two looks nothing is fetched
        now = clock.now_ms() if now_ms is None else now_ms
        found = rows(committed, begins, ends, written, now, prefix=prefix)
        return Look(
            now / 1000,
            [with_member(row, members[row.group]) for row in found],
            {place: at for place, at in written.items() if at is not None},
            sorted((group.removeprefix(prefix), topic) for group, topic in missing),
            asked / 1000,
        )


def with_member(row: LagRow, members: Members) -> LagRow:
    """Return the row with the member that has its partition. Pure."""
    member = members.get(row.topic, row.partition)
    if member is None:
        return replace(row, held=False if members.known else None)
    return replace(row, held=True, member=member.id, host=member.host)


def rows(
    committed: Mapping[str, Mapping[TopicPartition, int]],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    written: Mapping[tuple[TopicPartition, int], int | None],
    now_ms: float,
    *,
    prefix: str,
) -> list[LagRow]:
    """Compute the rows from the broker's answers. Pure.

    Parameters
    ----------
    committed
        group -> partition -> committed offset, -1 for none.
    begins, ends
        First offset and end offset (next to be written) of every partition.
    written
        (partition, offset) -> timestamp (ms) of the first record at or after that offset, None when there is
        none. An offset that could not be read is missing.
    now_ms
        Present time, ms since the epoch.
    prefix
        Removed from the name of a group to get its role.
    """
    out = []
    for group, offsets in sorted(committed.items()):
        for tp, offset in sorted(offsets.items()):
            if tp not in ends:
                continue  # the topic was deleted
            start = max(offset, begins[tp])
            records, seconds = _unread(start, ends[tp], written, tp, now_ms)
            deleted = max(0, begins[tp] - offset) if offset >= 0 else 0
            role = group.removeprefix(prefix)
            out.append(
                LagRow(group, role, tp.topic, tp.partition, offset, ends[tp], records, seconds, deleted)
            )
    return out


def _unread(
    start: int,
    end: int,
    written: Mapping[tuple[TopicPartition, int], int | None],
    tp: TopicPartition,
    now_ms: float,
) -> tuple[int, float | None]:
    """Return the number of records from ``start`` to ``end`` and the age of the first one, s."""
    if start >= end:
        return 0, 0.0
    if (tp, start) not in written:
        return end - start, None
    timestamp = written[tp, start]
    return (0, 0.0) if timestamp is None else (end - start, max(0.0, (now_ms - timestamp) / 1000))


async def _groups(
    admin: AIOKafkaAdminClient, settings: Settings
) -> tuple[dict[str, dict[TopicPartition, int]], dict[str, Members], set[tuple[str, str]]]:
    """Return by group its committed offsets, and its members; and (group, topic) that do not exist.

    The questions go out together: one after the other, each would wait for a core on a busy machine.
    """
    # The assignment in the description of a group is not enough: it is empty while no worker runs, and its
    # format differs between brokers. So the declaration says what a group reads.
    topics = Topics(settings)
    declared = {settings.name(f"headrace-{role}"): reads for role, reads in group_reads().items()}
    known, described = await asyncio.gather(admin.list_consumer_groups(), admin.describe_topics())
    groups = [entry[0] for entry in known if entry[0] in declared]
    partitions = {told["topic"]: [part["partition"] for part in told["partitions"]] for told in described}
    committed, members = await asyncio.gather(
        asyncio.gather(*(admin.list_consumer_group_offsets(group) for group in groups)),
        asyncio.gather(*(members_of(admin, group) for group in groups)),
    )
    out, missing = {}, set()
    for group, offsets in zip(groups, committed, strict=True):
        reads = [getattr(topics, name) for name in declared[group]]
        here = {
            TopicPartition(tp.topic, tp.partition): int(found.offset)
            for tp, found in offsets.items()
            if tp.partition in partitions.get(tp.topic, ())
        }
        out[group] = every_partition(here, reads, partitions)
        missing |= {(group, topic) for topic in reads if topic not in partitions}
    return out, dict(zip(groups, members, strict=True)), missing


def every_partition(
    offsets: Mapping[TopicPartition, int], reads: Iterable[str], partitions: Mapping[str, Sequence[int]]
) -> dict[TopicPartition, int]:
    """Return a group's offsets, with -1 for partitions that it reads but has not committed. Pure.

    Parameters
    ----------
    offsets
        Committed offsets. A group with an offset in one partition of a topic reads all of that topic.
    reads
        Names of further topics that the group reads.
    partitions
        topic -> partitions that exist.
    """
    out = dict(offsets)
    for topic in {tp.topic for tp in offsets}.union(reads):
        for partition in partitions.get(topic, ()):
            out.setdefault(TopicPartition(topic, partition), -1)
    return out


async def _bounds(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    if not tps:
        return {}, {}
    begins, ends = await asyncio.gather(consumer.beginning_offsets(tps), consumer.end_offsets(tps))
    return begins, ends


async def _timestamps(
    consumer: AIOKafkaConsumer,
    wanted: Iterable[tuple[TopicPartition, int]],
    ends: Mapping[TopicPartition, int],
    most_s: float,
) -> dict[tuple[TopicPartition, int], int | None]:
    """Read one record per (partition, offset); there may be several offsets of a partition."""
    out: dict[tuple[TopicPartition, int], int | None] = {}
    left = sorted(wanted)
    deadline = time.monotonic() + most_s
    while left and time.monotonic() < deadline:
        lowest = dict(reversed(left))  # the lowest offset of every partition
        consumer.assign(list(lowest))
        for tp, offset in lowest.items():
            consumer.seek(tp, offset)
        waiting = set(lowest)
        while waiting and time.monotonic() < deadline:
            for part in drain(consumer._fetcher, waiting, 1):
                if part.records or part.position >= ends[part.tp]:
                    out[part.tp, lowest[part.tp]] = part.records[0].timestamp if part.records else None
                    waiting.discard(part.tp)
            if waiting:
                await asyncio.sleep(0.005)
        left = [want for want in left if want not in lowest.items()]
    return out
