"""Lists of records from aiokafka's fetcher: holes at the end, limits, order of partitions; the lease."""

from __future__ import annotations

import asyncio
import math
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import OffsetCommitRequest
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.commit import OffsetCommitResponse_v2
from aiokafka.protocol.group import (
    HeartbeatRequest,
    HeartbeatResponse_v0,
    LeaveGroupRequest,
    LeaveGroupResponse_v0,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from headrace.streams.transport import fetching, lease, patience
from headrace.streams.transport.fetching import drain, take_records
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.patience import pause_s

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


@pytest.fixture(params=[MemoryRecords, RawRecords], autouse=True)
def reader_of_answers(request, monkeypatch):
    """Read answers both ways: as objects of aiokafka, and by the compiled loop."""
    monkeypatch.setitem(globals(), "MemoryRecords", request.param)


def log_batch(
    base: int, count: int, *, size: int = 10, control: bool = False, last: int | None = None
) -> bytes:
    """Return a broker's batch; ``last``: its last offset if compaction removed its last records."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for i in range(count):
        builder.append(i, 1000, b"k", b"x" * size, [])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    if last is not None:
        struct.pack_into(">i", raw, 23, last - base)
    if control:
        raw[22] |= 0x20
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


class Log:
    """A fetcher that has answers for partitions, as if just fetched."""

    def __init__(self, **answers: bytes) -> None:
        self.tps = {name: TopicPartition(name, 0) for name in answers}
        self.subscriptions = SubscriptionState()
        self.subscriptions.assign_from_user(set(self.tps.values()))
        self.assignment = self.subscriptions.subscription.assignment
        client = SimpleNamespace(_loop=asyncio.get_running_loop(), _metadata_max_age_ms=1000)
        self.fetcher = Fetcher(client, self.subscriptions)
        self.fetcher._fetch_task.cancel()
        for name, raw in answers.items():
            self.arrives(name, raw, 0)

    def arrives(self, name: str, raw: bytes, position: int) -> None:
        tp = self.tps[name]
        state = self.assignment.state_value(tp)
        state.seek(position)
        state.highwater = 10_000
        part = PartitionRecords(tp, MemoryRecords(raw), [], position, None, None, True, 0)
        self.fetcher._records[tp] = FetchResult(
            tp, assignment=self.assignment, partition_records=part, backoff=0.1
        )

    def drain(self, max_records: Any = 100, **options) -> dict[str, tuple[int, int]]:
        """Return topic -> (records, position)."""
        found = drain(self.fetcher, set(self.tps.values()), max_records, **options)
        return {part.tp.topic: (len(part.records), part.position) for part in found}


async def test_a_control_batch_at_the_end_moves_the_position():
    log = Log(a=log_batch(0, 5) + log_batch(5, 1, control=True))
    assert log.drain() == {"a": (5, 6)}
    log.arrives("a", log_batch(6, 1, control=True), 6)
    assert log.drain() == {"a": (0, 7)}, "nothing but a marker: no records, and still a new position"


async def test_records_compacted_away_at_the_end_of_a_batch_move_the_position():
    log = Log(a=log_batch(0, 5, last=99))
    assert log.drain() == {"a": (5, 100)}
    log.arrives("a", log_batch(100, 0, last=149), 100)
    assert log.drain() == {"a": (0, 150)}, "a batch of which nothing is left"


async def test_a_topic_may_have_a_limit_of_its_own():
    log = Log(a=log_batch(0, 50), b=log_batch(0, 50))
    limits = {"a": 7, "b": 40}
    assert log.drain(limits.__getitem__) == {"a": (7, 7), "b": (40, 40)}
    assert log.drain(limits.__getitem__) == {"a": (7, 14), "b": (10, 50)}, "the rest stays with the answer"


async def test_what_compaction_has_removed_is_counted_and_markers_are_not():
    log = Log(a=log_batch(0, 5) + log_batch(5, 1, control=True) + log_batch(8, 2, last=12))
    (part,) = drain(log.fetcher, set(log.tps.values()), 6)
    assert (len(part.records), part.absent) == (6, 2 + 3), "6 and 7, and three of the last batch"
    (part,) = drain(log.fetcher, set(log.tps.values()), 6)
    assert (len(part.records), part.absent) == (1, 0), "counted once, though one record was left for later"
    log.arrives("a", log_batch(10, 5), 12)
    (part,) = drain(log.fetcher, set(log.tps.values()), 100)
    assert (len(part.records), part.absent) == (3, 0)


async def test_a_batch_is_taken_from_its_middle():
    log = Log(a=b"")
    log.arrives("a", log_batch(0, 10) + log_batch(10, 5), 7)
    assert log.drain() == {"a": (8, 15)}


async def test_a_corrupt_batch_is_refused():
    raw = bytearray(log_batch(0, 5))
    raw[-1] ^= 1
    log = Log(a=bytes(raw))
    with pytest.raises(Exception, match="Invalid CRC"):
        log.drain()


async def test_a_backlog_gives_its_share_and_goes_to_the_end_of_the_line():
    backlog = b"".join(log_batch(10 * i, 10) for i in range(8))
    log = Log(a=backlog, b=log_batch(0, 3))
    assert log.drain(20) == {"a": (20, 20), "b": (3, 3)}
    log.arrives("b", log_batch(3, 3), 3)
    assert list(log.fetcher._records) == [A, B], "b came after a"
    assert log.drain(20) == {"a": (20, 40), "b": (3, 6)}
    log.arrives("b", log_batch(6, 3), 6)
    assert list(log.drain(20, budget=20)) == ["a"], "the budget is used up"
    assert list(log.drain(20, budget=20)) == ["b", "a"], "who was left out comes first"
    assert log.drain(20) == {}


async def test_what_exceeds_the_limit_stays_in_order():
    log = Log(a=log_batch(0, 25) + log_batch(25, 25, last=99))
    assert [log.drain(10)["a"] for _ in range(5)] == [(10, 10), (10, 20), (10, 30), (10, 40), (10, 100)]
    assert log.drain(10) == {}
    log = Log(a=log_batch(0, 25))
    log.drain(10)
    log.assignment.state_value(A).seek(3)
    assert log.drain(10) == {"a": (0, 3)}, "the rest is from before the seek"


async def test_a_list_is_bounded_in_bytes_too():
    log = Log(a=b"".join(log_batch(10 * i, 10, size=200_000) for i in range(8)))
    assert log.drain(1000) == {"a": (50, 50)}, "8 MB of 2 MB batches: the one that passes it is the last"


async def test_one_by_one_topics_get_few():
    log = Log(a=log_batch(0, 50), b=log_batch(0, 50))
    assert log.drain(100, one_by_one="b".__eq__, max_single=20) == {"a": (50, 50), "b": (20, 20)}


async def test_take_records_gives_nothing_from_before_a_seek():
    log = Log(a=log_batch(0, 5))
    result = log.fetcher._records[A]
    log.assignment.state_value(A).seek(3)
    assert take_records(result, 100) == []


def test_pauses_grow_with_the_silence():
    assert pause_s(0) == patience.MIN_PAUSE_S
    assert pause_s(1) == patience.MAX_PAUSE_S <= 0.005, "a lone record waits for half of it on average"
    assert pause_s(patience.QUIET_S + 1) == patience.QUIET_PAUSE_S


# --- the plan ---


async def test_a_partition_nobody_reads_holds_up_no_other():
    log = Log(a=log_batch(0, 5), b=log_batch(0, 5))
    active = {A, B}
    plan = fetching._Plan(log.fetcher, lambda: active)
    waits = []
    plan._actions = lambda assignment: waits.append(log.fetcher._fetch_max_wait_ms)
    plan(log.assignment)
    assert log.fetcher._records[A].calculate_backoff() > 0, "it is about to be read: wait for it"
    active = {B}
    plan(log.assignment)
    assert log.fetcher._records[A].calculate_backoff() == 0
    log.assignment.state_value(A).pause()
    plan(log.assignment)
    assert A not in log.fetcher._records, "nothing is held of a paused partition"
    del log.fetcher._records[B]
    plan(log.assignment)
    assert waits == [20, 20, 20, 500]


# --- the lease ---


class Coordinator:
    def __init__(self) -> None:
        self.answers = []

    async def _send_req(self, request):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock(monkeypatch):
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(lease, "now", lambda: time.now)
    return time


HEARTBEAT = HeartbeatRequest("g", 1, "m")
COMMIT = OffsetCommitRequest("g", 1, "m", -1, [])


def committed(code: int) -> OffsetCommitResponse_v2:
    return OffsetCommitResponse_v2([("t", [(0, code)])])


async def test_the_lease_counts_from_the_question(clock):
    coordinator, held = Coordinator(), lease.Lease()
    assert held.age() == math.inf
    held.watch(coordinator)

    async def slow(request, send=coordinator._send_req):
        clock.now += 3  # the process is stopped before it reads the answer
        return HeartbeatResponse_v0(0)

    coordinator = Coordinator()
    coordinator._send_req = slow
    held.watch(coordinator)
    await coordinator._send_req(HEARTBEAT)
    assert held.age() == 3


@pytest.mark.parametrize(
    ("request_", "answer", "age"),
    [
        (HEARTBEAT, HeartbeatResponse_v0(0), 0),
        (HEARTBEAT, HeartbeatResponse_v0(27), 5),  # rebalance in progress
        (HEARTBEAT, HeartbeatResponse_v0(16), 5),  # not the coordinator
        (HEARTBEAT, HeartbeatResponse_v0(25), math.inf),  # unknown member
        (HEARTBEAT, HeartbeatResponse_v0(22), math.inf),  # illegal generation
        (HEARTBEAT, HeartbeatResponse_v0(82), math.inf),  # another with the same instance id
        (COMMIT, committed(0), 5),
        (COMMIT, committed(25), math.inf),
        (COMMIT, committed(27), 5),
        (LeaveGroupRequest("g", "m"), LeaveGroupResponse_v0(0), math.inf),
    ],
)
async def test_what_confirms_membership_and_what_ends_it(clock, request_, answer, age):
    coordinator, held = Coordinator(), lease.Lease()
    held.watch(coordinator)
    coordinator.answers = [HeartbeatResponse_v0(0), answer]
    await coordinator._send_req(HEARTBEAT)
    clock.now += 5
    await coordinator._send_req(request_)
    assert held.age() == age


async def test_a_lost_answer_confirms_nothing(clock):
    coordinator, held = Coordinator(), lease.Lease()
    held.watch(coordinator)
    coordinator.answers = [HeartbeatResponse_v0(0), ConnectionError()]
    await coordinator._send_req(HEARTBEAT)
    clock.now += 5
    with pytest.raises(ConnectionError):
        await coordinator._send_req(HEARTBEAT)
    assert held.age() == 5
