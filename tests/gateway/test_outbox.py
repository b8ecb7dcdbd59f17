"""What many callers have at the same time is written together; each learns the offsets of its own records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.agents.stage.outbox import Outbox
from headrace.serving.gateway.backend import Landed
from headrace.serving.gateway.records import Fresh
from headrace.streams.errors import UnavailableError
from headrace.streams.topics.sender import Written, partition_of

PARTITIONS = 3


class Log:
    """A producer into lists. ``gate`` holds writes back; ``faults`` are raised, one for each write."""

    def __init__(self) -> None:
        self.parts: dict[int, list[Any]] = {p: [] for p in range(PARTITIONS)}
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[Exception | None] = []
        self.silent = False

    async def partitions_of(self, topic: str) -> int:
        return PARTITIONS

    async def send_many(self, topic: str, records: Iterable[Any], *, partition: int) -> Written:
        await self.gate.wait()
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
        records = list(records)
        self.batches.append(len(records))
        part = self.parts[partition]
        first = len(part)
        part += records
        return Written(-1, -1) if self.silent else Written(first, len(part))


def outbox(log: Any, most: int = 1_000_000, timeout_s: float = 5.0) -> Outbox:
    return Outbox(log, most, timeout_s)


def records(*keys: str, size: int = 1) -> list[Fresh]:
    return [Fresh(key.encode(), b"v" * size, n) for n, key in enumerate(keys)]


async def test_a_record_is_where_it_is_told_to_be() -> None:
    log = Log()
    given_records = records(*(f"user-{n % 11}" for n in range(100)))
    landed = await outbox(log).put("events", given_records)
    for record, place in zip(given_records, landed, strict=True):
        assert isinstance(place, Landed)
        assert place.partition == partition_of(record.key or b"", PARTITIONS)
        key, value, timestamp, _ = log.parts[place.partition][place.offset]
        assert (key, value, timestamp) == (record.key, record.value, record.timestamp)


async def test_what_comes_while_a_batch_is_written_is_one_batch() -> None:
    log = Log()
    box = outbox(log)
    log.gate.clear()
    calls = [asyncio.create_task(box.put("events", records("a"))) for _ in range(50)]
    await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    log.gate.set()
    places = [place for (place,) in await asyncio.gather(*calls)]
    assert sorted(place.offset for place in places if isinstance(place, Landed)) == list(range(50))
    assert len(log.batches) <= 2


async def test_a_write_that_fails_is_told_to_whoever_had_a_part_in_it_only() -> None:
    log = Log()
    log.faults = [KafkaTimeoutError(), None]
    box = outbox(log)
    (lost,) = await box.put("events", records("a"))
    (landed,) = await box.put("events", records("a"))
    assert isinstance(lost, UnavailableError)
    assert landed == Landed(partition_of(b"a", PARTITIONS), 0)


async def test_an_error_of_another_kind_leaves_nobody_waiting() -> None:
    log = Log()
    log.faults = [RuntimeError("the sender is not running")]
    (lost,) = await outbox(log).put("events", records("a"))
    assert isinstance(lost, UnavailableError)
    assert "not running" in str(lost)


async def test_an_offset_that_the_broker_did_not_say_is_not_guessed() -> None:
    log = Log()
    log.silent = True
    landed = await outbox(log).put("events", records("a", "a"))
    assert landed == [Landed(partition_of(b"a", PARTITIONS), -1)] * 2


async def test_who_has_given_up_leaves_nothing_behind() -> None:
    log = Log()
    log.gate.clear()
    box = outbox(log, timeout_s=0.05)
    first = asyncio.create_task(box.put("events", records("a")))
    await asyncio.sleep(0)
    second = asyncio.create_task(box.put("events", records("a")))
    assert [type(place) for (place,) in await asyncio.gather(first, second)] == [UnavailableError] * 2
    log.gate.set()
    (landed,) = await outbox(log).put("events", records("a"))
    await box.close()
    assert isinstance(landed, Landed)
    assert sum(log.batches) == 2, "the second was not being written yet, and nobody waits for it"


async def test_no_answer_about_the_topic_is_told() -> None:
    class Away(Log):
        async def partitions_of(self, topic: str) -> int:
            raise KafkaError("away")

    assert [type(place) for place in await outbox(Away()).put("events", records("a", "b"))] == [
        UnavailableError,
        UnavailableError,
    ]


@pytest.mark.parametrize("most", [200, 1000, 100_000])
@given(
    calls=st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 300)), max_size=20), max_size=10
    )
)
@settings(max_examples=40, deadline=None)
def test_batches_have_bounds_and_keys_keep_their_order(most: int, calls: list[list[tuple[str, int]]]) -> None:
    async def run() -> None:
        log = Log()
        box = outbox(log, most)
        sent = [
            [Fresh(key.encode(), b"%d-%d" % (c, n) + b"." * size) for n, (key, size) in enumerate(call)]
            for c, call in enumerate(calls)
        ]
        answers = await asyncio.gather(*(box.put("events", call) for call in sent))
        for call, answer in zip(sent, answers, strict=True):
            for record, place in zip(call, answer, strict=True):
                assert isinstance(place, Landed)
                assert log.parts[place.partition][place.offset][1] == record.value
            for key in {record.key for record in call}:
                own = [record.value for record in call if record.key == key]
                written = [value for part in log.parts.values() for _, value, *_ in part if value in own]
                assert written == own
        sizes = [len(r.key or b"") + len(r.value or b"") + 64 for call in sent for r in call]
        assert all(count == 1 or count * min(sizes) <= most for count in log.batches)

    asyncio.run(run())
