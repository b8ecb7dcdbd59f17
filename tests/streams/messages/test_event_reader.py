"""Events read from the bytes of a batch, against the decoder that makes an object of each: the same."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.streams.messages import columns, event_scan, schemas
from headrace.streams.messages.columns import KIND, EventBatch, Limits
from headrace.streams.messages.event_reader import EventReader, ReadEvents
from headrace.streams.messages.schemas import Event
from headrace.streams.topics.placement import FORWARDED
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.record_list import RecordList

NOW = 1_764_000_000_000
LIMITS = Limits(partitions=3, lateness_ms=60_000, future_ms=5_000)
MAX_BYTES = 700
EVENT = {
    "event_id": "0700000000000a",
    "type": "dwell",
    "user_id": "user-0000007",
    "item_id": "item-000123",
    "ts": NOW - 400,
    "dwell_ms": 17_600,
    "request_id": "00c0ffee00",
    "position": 3,
    "surface": "home",
    "context": {"country": "DE", "device": "phone", "age": 31},
    "scope": "creator",
}
PLAIN = json.dumps(EVENT, separators=(",", ":")).encode()
#: Values of all fields, good ones and bad ones; as JSON.
VALUES = [
    '""', '"x"', '"ü"', '"😀"', '"\\u00fc"', '"\\n"', '"\\ud800"', '"a\\"b"', '"' + "x" * 64 + '"',
    '"' + "ü" * 64 + '"', '"' + "x" * 65 + '"', '"' + "😀" * 65 + '"', '"' + "l" * 128 + '"',
    '"' + "ü" * 129 + '"', "null", "true", "false", "0", "-0", "-1", "3", "03", "1.0", "1e3", "3.5", "-",
    "NaN", "10000", "10001", "86400000", "86400001", "1e400", "99999999999", "100000000000",
    "1764000000000", "1764000000000.0", "4102444800000", "4102444800001", "9" * 18, "9" * 19, "9" * 30,
    "1764000000",    "[]", "[1,[2,{}]]", "[1,]", "{}", '{"a":1}', '{"a":1,}', "{", "[" * 20 + "]" * 20,
    '"click"', '"skip"', '"hide"', '"Click"', '"home"', '"related"', '"digest"', '"shelf"',
    '"item"', '"creator"',
    '{"country":"FR"}', '{"country":null,"device":null,"ts":null}', '{"country":"FR","country":"DE"}',
    '{"age":17}', '{"age":150,"country":"FR"}', '{"age":151}', '{"age":null}', '{"age":-1}', '{"age":1.0}',
    '{"ts":1764000000000}', '{"ts":5}', '{"device":7}', '{"x":{"country":[true,-1.25,"y"]},"country":"BR"}',
]  # fmt: skip
NAMES = [*EVENT, "other", "", "event_I", "ünknown", "type\\u0000", "country"]
SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n ", "\x0b", "\u00a0"])


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Draw an event whose fields were changed, left out, repeated, put in another order."""
    fields = [(name, json.dumps(value)) for name, value in EVENT.items()]
    for _ in range(draw(st.integers(0, 3))):
        change = draw(st.sampled_from(["value", "value", "drop", "add", "repeat", "move"]))
        at = draw(st.integers(0, len(fields) - 1))
        if change == "value":
            fields[at] = (fields[at][0], draw(st.sampled_from(VALUES)))
        elif change == "drop" and len(fields) > 1:
            fields.pop(at)
        elif change == "add":
            fields.insert(at, (draw(st.sampled_from(NAMES)), draw(st.sampled_from(VALUES))))
        elif change == "repeat":
            fields.append(fields[at])
        else:
            fields.append(fields.pop(at))
    gap, comma = draw(SPACE), draw(st.sampled_from([",", ",", ",", " ,\n", ",,", ""]))
    text = comma.join(f'"{name}"{gap}:{gap}{value}' for name, value in fields)
    return f"{draw(SPACE)}{{{gap}{text}{gap}}}{draw(SPACE)}".encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw an event with other bytes in it, or less of it."""
    body = bytearray(draw(objects()))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 1))] = draw(
            st.sampled_from(
                [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe0\x9f\xbf"]
            )
            | st.sampled_from(
                [b"\0", b"\x1f", b"\\", b'"', b"{", b"}", b",", b":", b"0", b".", b"\xef\xbb\xbf"]
            )
            | st.binary(max_size=2)
        )
    return bytes(body[draw(st.sampled_from([0, 0, 0, 1])) : draw(st.integers(len(body) // 2, len(body)))])


BODIES = (
    objects() | damaged() | st.sampled_from([PLAIN, b"", b"null", b"[]", b"{}", PLAIN + b"{}", PLAIN + b"\0"])
)
USER = EVENT["user_id"].encode()
RECORDS = st.lists(
    st.tuples(
        st.sampled_from([USER, USER, USER, b"other", b"", None]),
        BODIES | st.none() | st.just(PLAIN.replace(b"phone", b"x" * MAX_BYTES)),
        st.integers(-5000, 5000) | st.sampled_from([60_001, 2 * 86_400_000]),
        st.sampled_from([[], [], [("trace", b"1")], [("trace", None), (FORWARDED, b"events/1/5")]]),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def batch(told: list[Any]) -> RecordList:
    """Return records as they are fetched; each of ``told`` is key, value, ms after ``NOW``, headers."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for i, (key, value, after, headers) in enumerate(told):
        builder.append(2 * i, NOW + after, key, value, headers)
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    records = gathering.records()
    assert isinstance(records, RecordList)
    return records


def read(records: Any, partition: int = 1) -> tuple[ReadEvents, EventBatch]:
    return EventReader(MAX_BYTES, LIMITS).read(records, partition, NOW)


def same(told: list[Any], partition: int) -> None:
    """Compare both ways of reading."""
    records = batch(told)
    got, events = read(records, partition)
    expected, columns_ = read(list(records), partition)
    assert [(r.offset, str(e)) for r, e in got.rejects] == [(r.offset, str(e)) for r, e in expected.rejects]
    assert [vars(e) for _, e in got.rejects] == [vars(e) for _, e in expected.rejects]
    assert [r.offset for r in got.records] == [r.offset for r in expected.records]
    assert [got.event(r) for r in got.records] == [expected.event(r) for r in expected.records]
    for mine, theirs in zip(events.arrays(), columns_.arrays(), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert len(events.columns.category) == len(events.columns.creator) == len(expected.records)


@given(RECORDS, st.integers(0, 2))
@settings(max_examples=400, deadline=None)
@example([(None, PLAIN, 0, [])], 0)
def test_both_ways_say_the_same(told: list[Any], partition: int) -> None:
    same(told, partition)


@pytest.mark.parametrize("value", VALUES)
def test_each_value_in_each_field(value: str) -> None:
    told = []
    for name in (*EVENT, "other"):
        fields = {n: json.dumps(v) for n, v in EVENT.items()} | {name: value}
        body = "{" + ",".join(f'"{n}":{v}' for n, v in fields.items()) + "}"
        told.append((USER, body.encode(), 0, []))
        context = f'{{"{"ts" if name == "ts" else "country" if name == "type" else "device"}":{value}}}'
        told.append((USER, PLAIN[: PLAIN.index(b'"context"')] + f'"context":{context}}}'.encode(), 0, []))
    same(told, 1)


def scanned(body: bytes) -> bool:
    """Return whether the scan itself is certain of a value."""
    records = batch([(USER, body, 0, [])])
    _, found = event_scan.scan_events(
        records.payload, records.parts, records.offsets, records.timestamps, KIND, max_bytes=MAX_BYTES,
        **columns.rules_of(1, LIMITS, NOW),
    )  # fmt: skip
    return bool(found[0])


def test_usual_events_need_no_other_decoder() -> None:
    assert scanned(PLAIN)
    assert scanned(json.dumps(EVENT, indent=2).encode())
    assert scanned(msgspec.json.encode(Event("e", "click", "u", "ü" * 64, NOW))), (
        "nulls for what is not there"
    )
    for scope in (b'"item"', b"null"):
        assert scanned(PLAIN.replace(b'"creator"', scope))
    assert not scanned(PLAIN.replace(b'"creator"', b'"all"'))
    assert scanned(PLAIN[:-1] + b',"page":{"tags":["a",{"n":-1.5}],"ok":true}}')
    for text in (b'"user\\u002d0000007"', b'"user\xff"', b"7"):
        assert not scanned(PLAIN.replace(b'"user-0000007"', text))
    assert not scanned(PLAIN.replace(b'"user_id"', b'"user\\u005fid"'))


def test_an_event_is_decoded_when_it_is_asked_for() -> None:
    got, _ = read(batch([(USER, PLAIN, 0, []), (USER, b"{", 0, []), (USER, PLAIN, 0, [])]))
    assert [got.event(r) for r in got.records] == [msgspec.json.decode(PLAIN, type=Event)] * 2
    assert ([r.offset for r in got.records], [r.offset for r, _ in got.rejects]) == ([0, 4], [2])
    assert len(read(batch([(USER, PLAIN, 0, [])])[1:])[1].verdict) == 0


def test_the_scan_has_the_fields_and_bounds_of_the_schema() -> None:
    """A change of the schema must be made in ``event_scan.pyx``, too: its bounds are written there."""
    told = {f.encode_name: f for f in msgspec.inspect.type_info(Event).fields}
    inner = {f.encode_name: f.type for f in told["context"].type.fields}
    text, whole, null = msgspec.inspect.StrType, msgspec.inspect.IntType, msgspec.inspect.NoneType()
    ids = text(min_length=1, max_length=64)
    time = whole(ge=schemas.MIN_TS, le=schemas.MAX_TS)
    assert {name: f.type for name, f in told.items() if name not in ("type", "surface", "context")} == {
        "event_id": ids,
        "user_id": ids,
        "item_id": ids,
        "ts": time,
        "dwell_ms": msgspec.inspect.UnionType((whole(ge=0, le=86_400_000), null)),
        "request_id": text(max_length=64),
        "position": msgspec.inspect.UnionType((whole(ge=0, le=10_000), null)),
        "scope": msgspec.inspect.LiteralType(("creator", "item")),
    }
    assert {name for name, f in told.items() if f.required} == {
        "event_id",
        "type",
        "user_id",
        "item_id",
        "ts",
    }
    label = text(max_length=128)
    assert inner == {
        "country": label,
        "device": label,
        "ts": msgspec.inspect.UnionType((time, null)),
        "age": msgspec.inspect.UnionType((whole(ge=0, le=150), null)),
    }
    assert (schemas.MIN_TS, schemas.MAX_TS) == (100_000_000_000, 4_102_444_800_000)
    assert set(event_scan.TYPES) == set(get_args(schemas.EventType))
    assert set(get_args(schemas.Surface)) == {"home", "related", "digest"}


def test_what_is_not_in_the_payload_is_refused() -> None:
    records = batch([(USER, PLAIN, 0, [])])
    rules = columns.rules_of(1, LIMITS, NOW)
    for payload, parts, timestamps, text in (
        (records.payload[:9], records.parts, records.timestamps, "record 0 is not in the payload"),
        (records.payload, records.parts[:2], records.timestamps, "four rows"),
        (records.payload, records.parts, records.timestamps[:0], "0 timestamps of 1 records"),
    ):
        with pytest.raises(ValueError, match=text):
            event_scan.scan_events(
                payload, parts, records.offsets, timestamps, KIND, max_bytes=MAX_BYTES, **rules
            )
