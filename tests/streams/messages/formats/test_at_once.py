"""Events of ours in Avro, told all at once: the same events and the same dead letters as one by one."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import msgspec
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from foreign_forms import wire
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.streams.errors import RejectedError
from headrace.streams.messages.columns import Limits
from headrace.streams.messages.event_reader import EventReader
from headrace.streams.messages.formats import avro, published
from headrace.streams.messages.formats.avro_plan import Plan
from headrace.streams.messages.formats.translated import Translated
from headrace.streams.messages.formats.translator import Translator
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.record_list import RecordList

NOW, MAX_BYTES = 1_767_225_600_250, 400
EVENT: dict[str, Any] = {
    "event_id": "e-1", "type": "dwell", "user_id": "user-42", "item_id": "i-1", "ts": NOW, "dwell_ms": 5,
    "request_id": None, "position": 3, "surface": "home",
    "context": {"country": "DE", "device": None, "ts": None, "age": 31}, "scope": None,
}  # fmt: skip


def older() -> Any:
    schema = published.avro()
    del schema["fields"][6:]
    return schema


def newer() -> Any:
    """Return a schema of ours with more fields, null where ours has none, and texts as bytes."""
    schema = published.avro()
    fields = schema["fields"]
    fields.insert(0, {"name": "moods", "type": {"type": "array", "items": "string"}})
    fields.append({"name": "more", "type": {"type": "map", "values": ["null", "double"]}})
    fields[1]["type"] = fields[4]["type"] = "bytes"
    fields[3]["type"] = ["string", "null"]
    return schema


SCHEMAS = {
    1: published.avro(), 2: older(), 3: newer(),
    4: {"type": "record", "name": "shop.Click", "fields": [{"name": "who", "type": "string"}]},
}  # fmt: skip


class Schemas:
    """Readers of ``SCHEMAS``; it counts the messages that are read one by one."""

    def __init__(self) -> None:
        self.readers = {number: avro.reader(json.dumps(one), []) for number, one in SCHEMAS.items()}
        self.alone = 0

    def read(self, body: bytes) -> tuple[Any, bool]:
        self.alone += 1
        found = self.readers.get(int.from_bytes(body[1:5], "big")) if len(body) >= 5 else None
        if found is None:
            raise RejectedError("unknown_schema", "", "no such schema")
        return found(body)

    def plan(self, number: int) -> Plan | None:
        found = self.readers.get(number)
        return found.plan if found else None


def written(number: int, value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    if number == 3:
        in_bytes = {name: value[name].encode() for name in ("event_id", "item_id")}
        value = value | in_bytes | {"moods": ["good", "ü"], "more": {"a": None, "b": 0.5}}
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[number]), value)
    return wire(number, out.getvalue())


def fetched(records: list[Any]) -> RecordList:
    """Return records ``(key, value, headers)`` as they are fetched."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for n, (key, value, headers) in enumerate(records):
        builder.append(3 * n, NOW, key, value, headers)
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    found = gathering.records()
    assert isinstance(found, RecordList)
    return found


def shown(record: Any) -> Any:
    return record.offset, record.timestamp, record.key, record.value, list(record.headers)


def outcome(told: Translated) -> Any:
    """Return records, columns and dead letters of what was translated."""
    found, columns = EventReader(MAX_BYTES, Limits(4, 86_400_000, 300_000)).read(told.records, 0, NOW)
    letters = [(shown(r), why.reason, why.field, why.detail) for r, why in told.letters(found.rejects)]
    sources = {offset: shown(record) for offset, record in told.sources.items()}
    arrays = [array.tolist() for array in columns.arrays()]
    return [shown(r) for r in told.records], [shown(r) for r in found.records], letters, sources, arrays


def both(records: list[Any]) -> tuple[Any, int]:
    """Translate a batch at once and one by one; return what comes of it, and how many were read alone."""
    schemas, batch = Schemas(), fetched(records)
    translator = Translator(MAX_BYTES, detect=True, schemas=schemas)
    at_once = outcome(translator.read(batch))
    alone = schemas.alone
    assert at_once == outcome(translator.read(list(batch)))
    return at_once, alone


words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["user-42", "e-1", "i-1", "", 'a"b', "a\\b", "\x7f", "\x00", "ü", "\U0001f600", "x" * 70]
    ),
)
numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -1, NOW]))
times = st.one_of(st.just(NOW), st.integers(-(2**63), 2**63 - 1))
maybe_words = st.one_of(st.none(), words)
events = st.fixed_dictionaries({
    "event_id": words, "type": st.one_of(st.sampled_from(["click", "dwell"]), words), "user_id": words,
    "item_id": words, "ts": times, "dwell_ms": numbers, "request_id": maybe_words, "position": numbers,
    "surface": st.one_of(st.sampled_from([None, "home"]), words),
    "context": st.one_of(
        st.none(),
        st.fixed_dictionaries({"country": maybe_words, "device": maybe_words, "ts": numbers, "age": numbers}),
    ),
    "scope": st.one_of(st.sampled_from([None, "item", "creator"]), words),
})  # fmt: skip


@st.composite
def bodies(draw: Any) -> bytes:
    """Return an event of ours in Avro, damaged now and then, or something else."""
    number = draw(st.sampled_from([1, 1, 2, 3]))
    event = draw(st.one_of(st.just(EVENT), events))
    body = written(number, {name: value for name, value in event.items() if number != 2 or name in OLDER})
    damage = draw(st.sampled_from(["none"] * 6 + ["cut", "more", "byte", "schema", "json", "any"]))
    if damage == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if damage == "more":
        return body + draw(st.binary(min_size=1, max_size=3))
    if damage == "byte":
        at = draw(st.integers(0, len(body) - 1))
        return body[:at] + draw(st.binary(min_size=1, max_size=1)) + body[at + 1 :]
    if damage == "schema":
        return wire(draw(st.sampled_from([4, 5, 2**31, 2**32 - 1])), body[5:])
    if damage == "json":
        return msgspec.json.encode(event)
    return draw(st.binary(max_size=40)) if damage == "any" else body


OLDER = {one["name"] for one in older()["fields"]}
HEADERS: list[list[tuple[str, bytes | None]]] = [
    [], [], [], [("traceparent", b"00-1-2-01")], [("tenant", None), ("Content-Type", b"application/avro")],
    [("content-type", b"application/cloudevents+json")], [("ce_specversion", b"1.0"), ("ce_id", b"7")],
    [("CE_ID", b"7"), ("", b"")], [("events/forwarded", b"events/1/5")],
]  # fmt: skip
keys = st.sampled_from([b"user-42", b"user-42", None, b"", b"user-43", b"user-4", "ü".encode()])
records_of = st.lists(st.tuples(keys, bodies(), st.sampled_from(HEADERS)), min_size=1, max_size=12)
GOOD = (b"user-42", written(1, EVENT), HEADERS[0])


@settings(max_examples=300, deadline=None)
@given(records_of)
@example([GOOD, (b"user-42", written(1, EVENT)[:-3], HEADERS[0]), GOOD])
@example([GOOD, (b"", written(1, EVENT | {"user_id": ""}), HEADERS[0]), (None, None, HEADERS[0]), GOOD])
@example([(b"user-42", written(1, EVENT | {"ts": -(2**63), "position": 2**63 - 1}), HEADERS[0])])
def test_a_batch_is_told_as_its_records_are_alone(records: list[Any]) -> None:
    both(records)


def test_only_what_is_unusual_is_read_alone() -> None:
    damaged = (b"user-42", written(1, EVENT)[:-3], HEADERS[0])
    quoted = (b"user-42", written(1, EVENT | {"request_id": 'a"b'}), HEADERS[0])
    cloud = (b"user-42", GOOD[1], HEADERS[6])
    traced, other_key = (b"user-42", GOOD[1], HEADERS[3]), (b"k", GOOD[1], HEADERS[0])
    evolved = (b"user-42", written(3, EVENT), HEADERS[0])
    (told, accepted, letters, sources, _), alone = both(
        [GOOD, damaged, GOOD, quoted, cloud, traced, other_key, evolved]
    )
    assert alone == 3, "the damaged one, the one with an escape, and the CloudEvent"
    assert [key for _, _, key, _, _ in told] == [*[b"user-42"] * 6, None, b"user-42"]
    assert {json.loads(value)["user_id"] for _, _, _, value, _ in accepted} == {"user-42"}
    assert [reason for _, reason, _, _ in letters] == ["undecodable"]
    assert [source[3] for source, _, _, _ in letters] == [damaged[1]], "as it came"
    assert len(sources) == 8


def test_what_becomes_too_large_is_a_dead_letter_as_it_came() -> None:
    """Avro is shorter than its JSON: the limit is on both."""
    event = EVENT | {"request_id": "r" * 128, "context": EVENT["context"] | {"country": "c" * 128}}
    body = written(1, event)
    assert len(body) <= MAX_BYTES < len(msgspec.json.encode(event))
    (_, accepted, letters, _, _), alone = both([GOOD, (b"user-42", body, HEADERS[0])])
    assert (len(accepted), alone) == (1, 0)
    assert [(source[3], reason) for source, reason, _, _ in letters] == [(body, "too_large")]


def test_without_a_record_there_is_nothing_to_tell() -> None:
    plan = Schemas().plan(1)
    assert plan is not None
    nothing = np.zeros(0, np.int64)
    text, sizes, other_keys = plan.tell(b"", fetched([GOOD]).fields[:, :0], nothing, 5, "user_id")
    assert (text, len(sizes), len(other_keys)) == (b"", 0, 0)


@pytest.mark.parametrize(
    "plan",
    [
        Plan("string"),
        Plan("record", [Plan("double")], ["a"]),
        Plan("record", [Plan("union", [Plan("null"), Plan("bytes")])], ["a"]),
        Plan("record", [Plan("long"), Plan("long")], ["a", "a"]),
        Plan("record", [Plan("long")], ['a"']),
        Plan("record", [Plan("record", [Plan("boolean")], ["b"])], ["a"]),
    ],
)
def test_what_json_may_write_in_another_way_is_not_told(plan: Plan) -> None:
    batch = fetched([GOOD])
    with pytest.raises(ValueError, match="cannot be told"):
        plan.tell(batch.payload, batch.fields, np.zeros(1, np.int64), 5, "user_id")


def test_a_field_that_is_left_out_may_be_anything() -> None:
    assert Plan("record", [Plan("double"), Plan("long")], [None, "a"]).tells


@pytest.mark.parametrize("place", [-1, 1, 2**62])
def test_a_place_that_is_not_there_is_refused(place: int) -> None:
    plan, batch = Schemas().plan(1), fetched([GOOD])
    assert plan is not None
    with pytest.raises(ValueError, match="no record"):
        plan.tell(batch.payload, batch.fields, np.array([place], np.int64), 5, "user_id")
