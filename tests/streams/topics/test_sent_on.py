"""Records that are sent on: encoded in columns and one by one, against aiokafka's builder; their header."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.streams.topics.murmur2 import partitions_of_keys, partitions_of_parts
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import FORWARDED, Origin, origin_of, origins_of
from headrace.streams.topics.reader import read_partition
from headrace.streams.topics.record_batch import record_batch
from headrace.streams.topics.sender import Written
from headrace.streams.topics.sent_on import SentOn
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.record_fields import KEY, OFFSET, VALUE
from headrace.streams.transport.record_list import RecordList

#: Key, value, ms after the first, headers.
Told = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]
BYTES = st.none() | st.binary(max_size=6) | st.sampled_from([b"x" * 63, b"x" * 64, b"x" * 300])
OURS = st.sampled_from(
    [
        b"events/1/5", b"events/0/0", b"events/007/0012", b"other/1/5", b"a/events/1/5", b"events/1/",
        b"/1/5", b"events//5", b"events/1/-5", b"events/ 1/5", b"events/1/5/", b"5", b"", None,
        b"events/1/" + b"9" * 18, b"events/1/" + b"9" * 19, b"events/" + b"9" * 18 + b"/1",
        b"events/\xb9/1", b"event/1/5", b"eventss/1/5",
    ]
) | st.binary(max_size=8)  # fmt: skip
HEADERS = st.lists(
    st.tuples(st.sampled_from(["", "trace", "t" * 70]), st.none() | st.binary(max_size=3))
    | st.tuples(st.sampled_from([FORWARDED, FORWARDED, FORWARDED[:-1], FORWARDED + "x"]), OURS),
    max_size=4,
)
RECORDS = st.lists(
    st.tuples(BYTES, BYTES, st.integers(-(2**40), 2**40) | st.integers(0, 9), st.just([]) | HEADERS),
    min_size=1,
    max_size=12,
)
#: Offsets of the first record, and what is added to all.
FIRSTS = st.sampled_from([0, 1, 2**31 + 3, 10**17])
BASES = st.sampled_from([0, 7, 2**40, 9 * 10**17, 2**62])
T0 = 1_764_000_000_000


def fetched(told: list[Told], first: int = 0) -> RecordList:
    """Return records as they are fetched; between two offsets, one is missing."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for i, (key, value, after, headers) in enumerate(told):
        builder.append(2 * i, T0 + after, key, value, headers)
    raw = bytearray(builder.build())
    raw[:8] = first.to_bytes(8, "big")
    source = RawRecords(bytes(raw))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    records = gathering.records()
    assert isinstance(records, RecordList)
    return records


def built(records: list[Any]) -> bytes:
    """Return the record batch that aiokafka's builder makes of (key, value, timestamp, headers)."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for n, (key, value, timestamp, headers) in enumerate(records):
        builder.append(n, timestamp, key, value, headers)
    return bytes(builder.build())


def compare(got: list[bytes], records: list[Any], max_bytes: int) -> None:
    """Compare encoded batches with what aiokafka's builder writes; each must be as full as it can be."""
    at = 0
    for raw in got:
        end = at + len(list(DefaultRecordBatch(raw)))
        assert raw == built(records[at:end])
        assert len(raw) <= max_bytes or end == at + 1
        assert end == len(records) or len(built(records[at : end + 1])) > max_bytes
        at = end
    assert at == len(records)


def batches(sent: SentOn) -> list[bytes]:
    taken = sent.take()
    assert sent.take() == []
    return [record_batch(payload, n, first, newest_ms=newest) for payload, n, first, newest in taken]


@given(RECORDS, FIRSTS, BASES, st.sampled_from([100, 400, 1000, 1 << 20]), st.data())
@example([(b"k", None, 0, [])], 10**17, 9 * 10**17, 1000, None)
def test_aiokafkas_builder_writes_the_same_bytes(
    told: list[Told], first: int, base: int, max_bytes: int, data: st.DataObject | None
) -> None:
    """The old way was that builder; some records are added one by one, in the middle of the others."""
    records = fetched(told, first)
    origins = [Origin("events", 12, record.offset + base).header() for record in records]
    pairs = zip(records, origins, strict=True)
    expected = [(r.key, r.value, r.timestamp, [*r.headers, origin]) for r, origin in pairs]
    sent, at = SentOn(max_bytes), 0
    while at < len(records):
        end = len(records) if data is None else data.draw(st.integers(at, len(records)))
        sent.add(records.payload, records.fields[:, at:end], "events/12", base)
        for one in expected[end : end + 1]:
            sent.add_one(*one)
        at = end + 1
    got = batches(sent)
    compare(got, expected, max_bytes)
    read = [record for raw in got for record in DefaultRecordBatch(raw)]
    assert [(r.key, r.value, r.timestamp, list(r.headers)) for r in read] == expected


@given(st.lists(st.tuples(BYTES, BYTES, st.integers(0, 9), st.lists(st.tuples(st.text(max_size=3), BYTES)))))
def test_one_by_one_a_header_may_have_any_name(told: list[Told]) -> None:
    sent = SentOn(1000)
    for record in told:
        sent.add_one(*record)
    compare(batches(sent), told, 1000)


@given(RECORDS)
def test_the_header_is_read_as_it_is_one_by_one(told: list[Told]) -> None:
    records = fetched(told)
    for topic in ("events", "a/events", "x"):
        assert origins_of(records, topic).tolist() == origins_of(list(records), topic).tolist()
    found = [origin_of(record) for record in records]
    partitions, offsets = origins_of(records, "events").tolist()
    for origin, partition, offset in zip(found, partitions, offsets, strict=True):
        ours = origin is not None and origin.topic == "events"
        assert (partition, offset) == (origin[1:] if ours else (-1, -1))


def test_no_records_have_no_origins() -> None:
    assert origins_of(fetched([(b"k", b"v", 0, [])])[1:], "events").shape == (2, 0)
    assert origins_of([], "events").shape == (2, 0)


@given(RECORDS, st.integers(1, 100))
def test_partitions_are_found_in_the_bytes(told: list[Told], partitions: int) -> None:
    records = fetched(told)
    expected = partitions_of_keys([record.key for record in records], partitions)
    assert partitions_of_parts(records.payload, records.parts, partitions).tolist() == expected.tolist()


def test_records_outside_of_their_payload_are_refused() -> None:
    records = fetched([(b"k", b"v", 0, [("h", b"1")])] * 2)
    for row in (KEY, VALUE):
        fields = records.fields.copy()
        fields[row, 1] = len(records.payload) + 1
        with pytest.raises(ValueError, match="record 1 is not in the payload"):
            SentOn(1000).add(records.payload, fields, "events/1", 0)
    with pytest.raises(ValueError, match="no header there"):
        SentOn(1000).add(records.payload[:-1], records.fields, "events/1", 0)
    with pytest.raises(ValueError, match="an offset of"):
        SentOn(1000).add(records.payload, records.fields, "events/1", -1 - int(records.fields[OFFSET, 0]))
    with pytest.raises(ValueError, match="not in the payload"):
        origins_of(RecordList(b"", records.fields), "events")
    with pytest.raises(ValueError, match="key 0 is not in the payload"):
        partitions_of_parts(b"", records.parts, 4)
    with pytest.raises(ValueError, match="0 partitions"):
        partitions_of_parts(records.payload, records.parts, 0)


@pytest.mark.broker
@pytest.mark.parametrize("compression", ["none", "zstd", "gzip"])
async def test_they_are_written_with_their_own_timestamps(topics_made, sender, compression: str) -> None:
    sender._settings = topics_made.model_copy(update={"compression": compression})
    topic, now = Topics(topics_made).events, int(time.time() * 1000) - 60_000
    told: list[Told] = [
        (b"k%d" % n, b"v" * (n % 300), now - T0 - n * 7 % 1000, [("n", b"%d" % n)] if n % 3 else [])
        for n in range(5000)
    ]
    records, sent = fetched(told), sender.sent_on()
    sent.add(records.payload, records.fields, f"{topic}/3", 10)
    assert await sender.send_on(topic, sent, partition=1) == Written(0, 5000)
    assert await sender.send_on(topic, sent, partition=1) == Written(-1, -1), "they were taken"
    got: list[Any] = []
    await read_partition(topics_made, topic, 1, lambda batch: got.extend(batch.records))
    assert [(r.key, r.value, r.timestamp, list(r.headers)) for r in got] == [
        (r.key, r.value, r.timestamp, [*r.headers, Origin(topic, 3, r.offset + 10).header()]) for r in records
    ]


@pytest.mark.broker
async def test_one_that_is_too_large_is_an_error(topics_made, sender) -> None:
    topic, sent = Topics(topics_made).events, sender.sent_on()
    sent.add_one(b"k", np.random.default_rng(1).bytes(20_000_000), T0, [])
    with pytest.raises(MessageSizeTooLargeError):
        await sender.send_on(topic, sent, partition=1)
    sent.add_one(b"k", b"fine", int(time.time() * 1000), [])
    assert await sender.send_on(topic, sent, partition=1) == Written(0, 1)
