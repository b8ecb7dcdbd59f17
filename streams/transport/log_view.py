"""Asks a broker about logs: their bounds, the record at an offset, ids of topics, the ends of leader epochs.

And about what we may do with topics.

aiokafka has no request for topic ids (Metadata since version 10) and none for epochs. Where a broker does not
know a request, the answer is "unknown".
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from aiokafka import TopicPartition
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from aiokafka.record.memory_records import MemoryRecords

from .places import Place, record_crc
from .starts import View

#: Bytes asked for around one record. When the record batch is larger, the partition is asked for alone.
PEEK_BYTES = 64 * 1024
_EARLIEST, _LATEST = -2, -1

Tp: TypeAlias = TopicPartition


class _TopicsAnswer(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(
            ("node_id", Int32), ("host", CompactString("utf-8")), ("port", Int32),
            ("rack", CompactString("utf-8")), ("tags", TaggedFields),
        )),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(
            ("error_code", Int16), ("name", CompactString("utf-8")), ("high", Int64), ("low", Int64),
            ("is_internal", Boolean),
            ("partitions", CompactArray(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", CompactArray(Int32)), ("isr", CompactArray(Int32)),
                ("offline", CompactArray(Int32)), ("tags", TaggedFields),
            )),
            ("operations", Int32), ("tags", TaggedFields),
        )),
        ("operations", Int32),
        ("tags", TaggedFields),
    )  # fmt: skip


class _TopicsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TopicsAnswer
    SCHEMA = Schema(
        ("topics", CompactArray(
            ("high", Int64), ("low", Int64), ("name", CompactString("utf-8")), ("tags", TaggedFields),
        )),
        ("create", Boolean), ("cluster_operations", Boolean), ("topic_operations", Boolean),
        ("tags", TaggedFields),
    )  # fmt: skip


class _TopicsRequest(Request[_TopicsStruct]):  # type: ignore[misc]
    """Metadata of some topics, with their ids, and with what we may do if asked. It creates none."""

    API_KEY = 3

    def __init__(self, topics: list[str], *, operations: bool = False) -> None:
        self._topics, self._operations = topics, operations

    def build(self, request_struct_class: type[_TopicsStruct]) -> _TopicsStruct:
        named: list[tuple[int, int, str, dict[int, bytes]]] = [(0, 0, topic, {}) for topic in self._topics]
        return request_struct_class(named, False, False, self._operations, {})


class _EpochsAnswer(Response):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(
            ("error_code", Int16), ("partition", Int32), ("epoch", Int32), ("end_offset", Int64),
        )))),
    )  # fmt: skip


class _EpochsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = _EpochsAnswer
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(
            ("partition", Int32), ("current_epoch", Int32), ("epoch", Int32),
        )))),
    )  # fmt: skip


class _EpochsRequest(Request[_EpochsStruct]):  # type: ignore[misc]
    """The ends of leader epochs."""

    API_KEY = 23

    def __init__(self, topics: list[tuple[str, list[tuple[int, int, int]]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_EpochsStruct]) -> _EpochsStruct:
        return request_struct_class(-1, self._topics)


async def look(client: Any, places: Mapping[Tp, Place]) -> dict[Tp, View]:
    """Return a view of every partition, with respect to its place.

    Parameters
    ----------
    client
        A started ``AIOKafkaClient`` that knows the topics.

    Raises
    ------
    KafkaError
        When a leader is not known or does not answer, or a topic does not exist.
    """
    if not places:
        return {}
    topics = {tp.topic for tp in places}
    ids, begins, ends = await asyncio.gather(
        _topic_ids(client, topics), _offsets(client, places, _EARLIEST), _offsets(client, places, _LATEST)
    )
    wanted = {tp: place.at for tp, place in places.items() if begins[tp] <= place.at < ends[tp]}
    found = await _records(client, wanted)
    views = {tp: View(begins[tp], ends[tp], ids.get(tp.topic, b""), found.get(tp)) for tp in places}
    doubtful = {
        tp: place.epoch
        for tp, place in places.items()
        if place.epoch >= 0 and views[tp].found != (place.timestamp, place.crc)
    }
    for tp, end in (await _epoch_ends(client, doubtful)).items():
        views[tp] = views[tp]._replace(epoch_end=end)
    return views


def _by_leader(client: Any, tps: Mapping[Tp, Any]) -> dict[int, dict[str, list[Tp]]]:
    nodes: dict[int, dict[str, list[Tp]]] = defaultdict(lambda: defaultdict(list))
    for tp in tps:
        leader = client.cluster.leader_for_partition(tp)
        if leader is None or leader < 0:
            client.force_metadata_update()
            raise LeaderNotAvailableError(f"{tp.topic}-{tp.partition}")
        nodes[leader][tp.topic].append(tp)
    return nodes


async def _topic_ids(client: Any, topics: set[str]) -> dict[str, bytes]:
    """Return the ids of topics; of none when the broker has no ids."""
    node = client.get_random_node()
    try:
        answer = await client.send(node, _TopicsRequest(sorted(topics)))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    out = {}
    for code, name, high, low, *_ in answer.topics:
        _check(client, code, name)
        if high or low:
            out[name] = high.to_bytes(8, "big", signed=True) + low.to_bytes(8, "big", signed=True)
    return out


async def operations(client: Any, topics: Collection[str]) -> dict[str, int]:
    """Return what we may do with topics: a bit for each of Kafka's codes of operations.

    A topic is left out when the broker does not say it, or does not show us the topic.

    Parameters
    ----------
    client
        A started ``AIOKafkaClient``.
    """
    try:
        answer = await client.send(client.get_random_node(), _TopicsRequest(sorted(topics), operations=True))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    told = ((code, topic[0], topic[-2]) for code, *topic in answer.topics)
    return {name: bits for code, name, bits in told if code == 0 and bits > 0}


async def _offsets(client: Any, tps: Mapping[Tp, Any], which: int) -> dict[Tp, int]:
    out = {}
    for node, topics in _by_leader(client, tps).items():
        asked = [(topic, [(tp.partition, which) for tp in of_topic]) for topic, of_topic in topics.items()]
        answer = await client.send(node, OffsetRequest(-1, 0, asked))
        for topic, partitions in answer.topics:
            for partition, code, _, offset in partitions:
                _check(client, code, f"{topic}-{partition}")
                out[Tp(topic, partition)] = offset
    return out


async def _records(client: Any, wanted: Mapping[Tp, int]) -> dict[Tp, tuple[int, int] | None]:
    """Return timestamp and crc of the record at an offset of every partition, None where there is none."""
    out: dict[Tp, tuple[int, int] | None] = {}
    for node, topics in _by_leader(client, wanted).items():
        tps = [tp for of_topic in topics.values() for tp in of_topic]
        out |= await _peek(client, node, {tp: wanted[tp] for tp in tps})
        for tp in tps:
            if tp not in out:  # its record batch did not fit into the answer; alone it does
                out |= await _peek(client, node, {tp: wanted[tp]})
    return out


async def _peek(client: Any, node: int, wanted: Mapping[Tp, int]) -> dict[Tp, tuple[int, int] | None]:
    asked: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for tp, offset in wanted.items():
        asked[tp.topic].append((tp.partition, offset, PEEK_BYTES))
    request = FetchRequest(0, 0, PEEK_BYTES * len(wanted), 0, list(asked.items()))
    answer = await client.send(node, request)
    out: dict[Tp, tuple[int, int] | None] = {}
    for topic, partitions in answer.topics:
        for partition, code, *rest in partitions:
            tp = Tp(topic, partition)
            if for_code(code) is OffsetOutOfRangeError:
                out[tp] = None
                continue
            _check(client, code, f"{topic}-{partition}")
            records = MemoryRecords(rest[-1] or b"")
            if records.has_next():
                out[tp] = _first_from(records, wanted[tp])
    return out


def _first_from(records: Any, offset: int) -> tuple[int, int] | None:
    while records.has_next():
        batch = records.next_batch()
        if batch.is_control_batch:
            continue
        for record in batch:
            if record.offset >= offset:
                return (
                    (record.timestamp, record_crc(record.key, record.value))
                    if record.offset == offset
                    else None
                )
    return None


async def _epoch_ends(client: Any, epochs: Mapping[Tp, int]) -> dict[Tp, int]:
    out: dict[Tp, int] = {}
    for node, topics in _by_leader(client, epochs).items():
        asked = [
            (topic, [(tp.partition, -1, epochs[tp]) for tp in of_topic]) for topic, of_topic in topics.items()
        ]
        try:
            answer = await client.send(node, _EpochsRequest(asked))
        except (IncompatibleBrokerVersion, NotImplementedError):
            continue
        for topic, partitions in answer.topics:
            out |= {Tp(topic, partition): end for code, partition, _, end in partitions if code == 0}
    return out


def _check(client: Any, code: int, what: str) -> None:
    if code:
        client.force_metadata_update()
        raise for_code(code)(what)
