"""Records found by the compiled loop, against aiokafka's reader; damaged batches; lists of records."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import numpy as np
import pytest
import zstandard
from aiokafka.codec import lz4_encode, zstd_encode
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.plain_gathering import PlainGathering, records_before
from headrace.streams.transport.record_fields import FIELDS, KEY, Record, find_records, make_records
from headrace.streams.transport.record_list import RecordList, chosen, offsets_of, timestamps_of

#: Key, value, milliseconds after the first record, headers.
Told = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]
BYTES = st.none() | st.binary(max_size=6) | st.sampled_from([b"x" * 64, b"x" * 200])
HEADERS = st.lists(
    st.tuples(st.sampled_from(["", "trace", "nämlich", "t" * 70]), st.none() | st.binary(max_size=3)),
    max_size=2,
)
RECORDS = st.lists(
    st.tuples(BYTES, BYTES, st.integers(-(2**40), 2**40) | st.integers(0, 9), st.just([]) | HEADERS),
    min_size=1,
    max_size=9,
)
CODECS = st.integers(0, 4)
#: Bits of the attributes.
APPEND_TIME = 0x08


def batch_of(told: list[Told], codec: int, base: int = 0, gaps: int = 1, append_time: bool = False) -> bytes:
    """Return a broker's batch; ``gaps`` is the distance between two offsets."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for i, (key, value, after, headers) in enumerate(told):
        builder.append(i * gaps, 1_764_000_000_000 + after, key, value, headers)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    if append_time:
        raw[22] |= APPEND_TIME
    return bytes(raw)


def told_by(record: Any) -> tuple[Any, ...]:
    headers = record.headers
    return (
        record.offset, record.timestamp, record.timestamp_type, record.key, record.value, headers,
        record.checksum, type(headers),
    )  # fmt: skip


def read(source: MemoryRecords, position: int = 0) -> Any:
    """Return all records of an answer."""
    gathering = getattr(source, "gathering", PlainGathering)(())
    while source.has_next():
        gathering.add(source.next_batch(), position)
    return gathering.records()


def result(source: MemoryRecords) -> Any:
    """Return the records of an answer, or the type of the error: whatever aiokafka raises is right."""
    try:
        return read(source)
    except Exception as exc:
        return type(exc)


def expected_of(raw: bytes) -> Any:
    """Return what aiokafka's own reader says."""
    found = result(MemoryRecords(raw))
    return found if isinstance(found, type) else [told_by(record) for record in found]


@given(RECORDS, CODECS, st.sampled_from([0, 5, 2**50]), st.sampled_from([1, 3]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_records_are_those_of_aiokafka(
    told: list[Told], codec: int, base: int, gaps: int, append_time: bool
) -> None:
    raw = batch_of(told, codec, base, gaps, append_time)
    got = read(RawRecords(raw))
    assert [told_by(record) for record in got] == expected_of(raw)
    plain = all(name.isascii() for *_, headers in told for name, _ in headers)
    assert isinstance(got, RecordList) == plain, "other names are left to aiokafka"
    assert offsets_of(got).tolist() == [r.offset for r in got]
    assert timestamps_of(got).tolist() == [r.timestamp for r in got]


@given(st.lists(st.tuples(RECORDS, CODECS), min_size=1, max_size=4), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_batches_one_after_the_other_and_from_the_middle(batches: list[Any], position: int) -> None:
    raw, base = b"", 0
    for told, codec in batches:
        raw += batch_of(told, codec, base)
        base += len(told)
    expected = [row for row in expected_of(raw) if row[0] >= position]
    assert [told_by(record) for record in read(RawRecords(raw), position)] == expected
    assert [told_by(record) for record in read(MemoryRecords(raw), position)] == expected


@given(RECORDS, CODECS, st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_batch_is_read_as_aiokafka_reads_it(
    told: list[Told], codec: int, data: st.DataObject
) -> None:
    """The checksum is not looked at here: damage that it does not show must not do more harm."""
    raw = bytearray(batch_of(told, codec))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(21, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 1, 5]))
    raw = raw[: max(len(raw) - cut, 62)]
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    got, expected = result(RawRecords(bytes(raw))), expected_of(bytes(raw))
    if isinstance(got, RecordList):
        assert [told_by(record) for record in got] == expected
    elif isinstance(got, type):
        # aiokafka may read past the end of a damaged batch: what it says then is not always the same.
        assert isinstance(expected, type)
    else:
        assert not any(isinstance(record, Record) for record in got), "aiokafka has read them"


@given(RECORDS, st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_found_lies_in_the_payload(told: list[Told], data: st.DataObject) -> None:
    body = bytearray(batch_of(told, 0)[61:])
    for _ in range(data.draw(st.integers(1, 2))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    fields = find_records(body, len(told), 0, 0, None, 0)
    if fields is not None:
        for record in make_records(body, fields):
            assert bytes(record.key or b"") in bytes(body)
    whole = bytes(body) + bytes(3)
    assert find_records(whole, len(told), 0, 0, None, 0) is None, "bytes are left"
    assert find_records(body, 2**31 - 1, 0, 0, None, 0) is None, "so many do not fit"
    assert find_records(body, -1, 0, 0, None, 0) is None


def packed(body: bytes, codec: int, count: int = 3) -> bytes:
    """Return a batch with these bytes in place of compressed records."""
    raw = bytearray(batch_of([(b"k", b"v", 0, [])] * count, 0)[:61] + body)
    raw[22] |= codec
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    return bytes(raw)


BODY = batch_of([(b"k", b"v", 0, [])] * 3, 0)[61:]
UNSIZED = zstandard.ZstdCompressor(write_content_size=False)
#: Begin of a zstd frame that says it holds 2**62 bytes.
LARGE = zstandard.MAGIC_NUMBER.to_bytes(4, "little") + b"\xe0" + (1 << 62).to_bytes(8, "little")
MEMBERS = gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])


@pytest.mark.parametrize(
    ("raw", "right"),
    [
        pytest.param(packed(gzip.compress(BODY), 1), True, id="gzip"),
        pytest.param(packed(MEMBERS, 1), True, id="gzip members"),
        pytest.param(packed(gzip.compress(BODY) + bytes(5), 1), True, id="gzip and zeros"),
        pytest.param(packed(gzip.compress(BODY) + b"more", 1), False, id="gzip and more"),
        pytest.param(packed(gzip.compress(BODY)[:-9], 1), False, id="gzip cut"),
        pytest.param(packed(zstd_encode(BODY) * 2, 4), False, id="zstd twice"),
        pytest.param(packed(zstd_encode(BODY[:9]) + zstd_encode(BODY[9:]), 4), True, id="zstd frames"),
        pytest.param(packed(zstd_encode(BODY)[:-1], 4), False, id="zstd cut"),
        pytest.param(packed(UNSIZED.compress(BODY), 4), True, id="zstd unsized"),
        pytest.param(packed(LARGE + zstd_encode(BODY)[6:], 4), False, id="zstd too large"),
        pytest.param(packed(lz4_encode(BODY)[:-1], 3), False, id="lz4 cut"),
        pytest.param(packed(b"\xff" * 20, 2), False, id="snappy damaged"),
        pytest.param(packed(BODY, 5), False, id="no such codec"),
        pytest.param(packed(BODY, 7), False, id="no such codec either"),
        pytest.param(packed(BODY, 0, count=2), True, id="fewer records"),
    ],
)
def test_unusual_and_damaged_compression_is_as_aiokafka_says(raw: bytes, right: bool) -> None:
    got, expected = result(RawRecords(raw)), expected_of(raw)
    assert (got if isinstance(got, type) else [told_by(record) for record in got]) == expected
    assert right or isinstance(expected, type)


def test_old_formats_are_aiokafkas() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for i in range(3):
        builder.append(i, 1000 + i, b"k", b"v%d" % i)
    got: Any = []
    for raw in (bytes(builder.build()), batch_of([(b"k", b"w", 0, [])], 0, base=3)):
        source = RawRecords(raw)
        gathering = source.gathering(got)
        while source.has_next():
            gathering.add(source.next_batch(), 0)
        got = gathering.records()
    assert [r.value for r in got] == [b"v0", b"v1", b"v2", b"w"]
    assert [r.offset for r in got] == [0, 1, 2, 3]
    assert not isinstance(got, RecordList)


def some(n: int) -> RecordList:
    told: list[Told] = [(b"k%d" % i, b"v" * i, i, [("h", b"1")] if i % 2 else []) for i in range(n)]
    records = read(RawRecords(batch_of(told, 0)))
    assert isinstance(records, RecordList)
    return records


def test_a_list_of_records_is_a_sequence() -> None:
    records = some(6)
    plain = list(records)
    assert (len(records), records[2].key, records[-1].offset) == (6, b"k2", 5)
    assert [told_by(r) for r in some(6)] == [told_by(some(6)[i]) for i in range(6)]
    assert list(records) == plain, "the objects are made once"
    assert [r.offset for r in records[1:5:2]] == [1, 3]
    assert [r.offset for r in reversed(records)] == [5, 4, 3, 2, 1, 0]
    assert [r.value for r in records.where(np.array([3, 0]))] == [b"vvv", b""]
    mask = np.array([True, False] * 3)
    for places in (mask, np.array([0, 2, 4])):
        assert [r.offset for r in chosen(records, places)] == [0, 2, 4]
        assert chosen(plain, places) == [plain[0], plain[2], plain[4]]
    for some_of in (records, plain):
        assert [len(records_before(some_of, offset)) for offset in (0, 1, 6, 9)] == [0, 1, 6, 6]
    assert isinstance(records_before(records, 3), RecordList)
    assert records.with_header("h").tolist() == [False, True] * 3
    assert not records.with_header("other").any()
    assert not some(1).with_header("h").any()
    assert not records[6:]
    for wrong in (2, -3):
        with pytest.raises(IndexError):
            some(2)[wrong]
    assert some(2)[-2].offset == 0


def test_lists_are_joined_without_bytes_before_their_first_key() -> None:
    first, second = some(50)[48:], some(4)
    joined = RecordList.joined([first, second])
    assert [told_by(r) for r in joined] == [told_by(r) for r in [*first, *second]]
    assert len(joined.payload) < len(first.payload) // 4
    assert joined.with_header("h").tolist() == [False, True] * 3


def test_records_outside_of_their_payload_are_refused() -> None:
    records = some(2)
    fields = records.fields.copy()
    fields[KEY, 1] = len(records.payload) + 1
    with pytest.raises(ValueError, match="record 1 is not in the payload"):
        make_records(records.payload, fields)
    with pytest.raises(ValueError, match="not in the payload"):
        RecordList(b"", records.fields).with_header("h")
    with pytest.raises(ValueError, match="2 fields"):
        make_records(b"", fields[:2])
    assert fields.shape[0] == FIELDS
