"""Records of aborted transactions: left out of the lists that are taken from aiokafka's fetcher."""

from __future__ import annotations

import ast
import struct
from inspect import signature

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from project import ROOT

from headrace.streams.app import make_app
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_partition
from headrace.streams.transport.batches import batch_topic, durable
from headrace.streams.transport.fetching import ISOLATION, take_records
from headrace.streams.transport.gathering import RawRecords

TP = TopicPartition("a", 0)
ABORT, COMMIT = 0, 1


def part_of_log(base: int, count: int, producer: int, *, transactional: bool = True) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer, 0, 0, 1 << 30)
    for i in range(count):
        builder.append(i, 1000, b"k", b"%d" % producer, [])
    return placed(bytearray(builder.build()), base)


def marker(base: int, producer: int, kind: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, -1, 1 << 30)
    builder.append(0, 1000, struct.pack(">hh", 0, kind), b"", [])
    raw = bytearray(builder.build())
    raw[22] |= 0x20  # a control batch
    return placed(raw, base)


def placed(raw: bytearray, base: int) -> bytes:
    struct.pack_into(">q", raw, 0, base)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def fetched(log: bytes, aborted: list[tuple[int, int]], position: int = 0) -> FetchResult:
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user({TP})
    assignment = subscriptions.subscription.assignment
    assignment.state_value(TP).seek(position)
    part = PartitionRecords(TP, RawRecords(log), aborted, position, None, None, True, READ_COMMITTED)
    return FetchResult(TP, assignment=assignment, partition_records=part, backoff=0.1)


def taken(result: FetchResult, max_records: int = 100) -> list[int]:
    return [record.offset for record in take_records(result, max_records)]


LOG = b"".join(
    [
        part_of_log(0, 3, 7),  # aborted
        part_of_log(3, 2, 8),  # committed, in between
        part_of_log(5, 2, -1, transactional=False),
        part_of_log(7, 1, 7),  # the same aborted transaction
        marker(8, 7, ABORT),
        part_of_log(9, 2, 7),  # the same producer's next transaction: committed
        marker(11, 8, COMMIT),
        marker(12, 7, COMMIT),
        part_of_log(13, 2, 9),  # aborted
        marker(15, 9, ABORT),
    ]
)  # fmt: skip
ABORTED = [(9, 13), (7, 0)]


async def test_records_of_aborted_transactions_are_left_out():
    result = fetched(LOG, list(ABORTED))
    assert taken(result) == [3, 4, 5, 6, 9, 10]
    assert result._assignment.state_value(TP).position == 16, "also past what was left out"


@pytest.mark.parametrize("most", [1, 2, 3, 5])
async def test_also_a_few_records_at_a_time(most: int):
    result, got = fetched(LOG, list(ABORTED)), []
    while result.has_more():
        got.append(taken(result, most))
    assert [offset for some in got for offset in some] == [3, 4, 5, 6, 9, 10]
    assert all(len(some) <= most for some in got)
    assert result._assignment.state_value(TP).position == 16


async def test_the_answer_may_begin_within_an_aborted_transaction():
    assert taken(fetched(part_of_log(0, 3, 7) + marker(3, 7, ABORT), [(7, 0)], position=2)) == []
    behind = part_of_log(7, 1, 7) + marker(8, 7, ABORT) + part_of_log(9, 2, 7)
    assert taken(fetched(behind, [(7, 0)], position=7)) == [9, 10]


def test_every_consumer_of_ours_reads_committed_records_only():
    rooms = ("streams", "models", "serving", "agents", "console", "demo", "bench", "tests/chaos")
    found, others = {}, set()
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py") if "peers" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("AIOKafkaConsumer"):
                level = next((ast.unparse(k.value) for k in node.keywords if k.arg == "isolation_level"), "")
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = level
            elif isinstance(node, ast.Call) and any(k.arg == "isolation" for k in node.keywords):
                others.add(str(path.relative_to(ROOT)))
    assert len(found) >= 5
    wrong = {where for where, level in found.items() if level not in ("ISOLATION", repr(ISOLATION))}
    assert {where.partition(":")[0] for where in wrong} == {"streams/topics/reader.py"}, "as it is told"
    assert signature(open_reader).parameters["isolation"].default == ISOLATION
    ours = {"streams/topics/redrive.py", "console/imported/arriving.py"}
    assert others == ours, "they look for their own records, behind open transactions of others, too"


@pytest.mark.broker
async def test_an_aborted_transaction_is_as_if_never_sent(topics_made, running, eventually, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker has no transactions")
    settings, topic = topics_made, Topics(topics_made).events
    async with AIOKafkaProducer(
        bootstrap_servers=settings.brokers, transactional_id=settings.name("tx")
    ) as producer:
        for abort in (True, False, True):
            await producer.begin_transaction()
            for n in range(4):
                await producer.send(topic, b"%d" % n, partition=0)
            await (producer.abort_transaction() if abort else producer.commit_transaction())
        app, by_group, alone = make_app(settings, "ingest"), [], []

        @app.agent(batch_topic(app, topic))
        async def collect(stream):
            async for batch in durable(stream):
                by_group.extend(record.offset for record in batch)

        async with running(app):
            await eventually(lambda: by_group == [5, 6, 7, 8])
            await eventually(lambda: no_lag(settings))

            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"open", partition=0)
            await read_partition(settings, topic, 0, lambda batch: alone.extend(r.offset for r in batch))
            assert alone == [5, 6, 7, 8], "a reader without a group, up to the last stable offset"
            assert await no_lag(settings), "what is open is no lag"
            async with AIOKafkaConsumer(bootstrap_servers=settings.brokers) as raw:
                (end,) = (await raw.end_offsets([TopicPartition(topic, 0)])).values()
            assert end == 16
            await producer.commit_transaction()
            await eventually(lambda: by_group == [5, 6, 7, 8, 15])
            await eventually(lambda: no_lag(settings))


async def no_lag(settings) -> bool:
    rows = await lag(settings)
    return bool(rows) and {(row.records, row.seconds) for row in rows} == {(0, 0.0)}
