"""Avro: the plan reads what fastavro reads; schemas evolve; what could take any memory is refused."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_many
from foreign_forms import wire
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats import avro, published

EVENT = {
    "event_id": "e-1", "type": "dwell", "user_id": "üser", "item_id": "i", "ts": 1_767_225_600_000,
    "dwell_ms": 5, "request_id": None, "position": None, "surface": "home",
    "context": {"country": "DE", "device": None, "ts": None, "age": 31}, "scope": None,
}  # fmt: skip
#: Every type of Avro, inside of one another.
EVERYTHING = {
    "type": "record", "name": "a.All", "fields": [
        {"name": "i", "type": "int"}, {"name": "l", "type": "long"}, {"name": "b", "type": "boolean"},
        {"name": "d", "type": "double"}, {"name": "s", "type": "string"}, {"name": "y", "type": "bytes"},
        {"name": "n", "type": "null"},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X", "Y", "Z"]}},
        {"name": "x", "type": {"type": "fixed", "name": "F", "size": 3}},
        {"name": "a", "type": {"type": "array", "items": {"type": "record", "name": "R", "fields": [
            {"name": "u", "type": ["null", "string", "a.E"]}, {"name": "f", "type": "a.F"}]}}},
        {"name": "m", "type": {"type": "map", "values": ["long", {"type": "array", "items": "a.R"}]}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}  # fmt: skip


def written(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return wire(1, out.getvalue())


def both(schema: Any, body: bytes, references: Any = ()) -> tuple[Any, bool]:
    """Read with the plan and with fastavro: both say the same."""
    text, others = json.dumps(schema), [json.dumps(one) for one in references]
    found = avro.reader(text, others)(body)
    assert repr(found) == repr(avro.reader(text, others, plain=False)(body))
    return found


def test_the_plan_reads_every_type_as_the_library_does() -> None:
    plain = json.loads(json.dumps(EVERYTHING).replace(', "logicalType": "timestamp-millis"', ""))
    for value in generate_many(plain, 50):
        both(EVERYTHING, written(plain, value))


def test_an_event_of_ours_is_read() -> None:
    assert both(published.avro(), written(published.avro(), EVENT)) == (EVENT, True)


def evolved(change: Any) -> Any:
    schema = published.avro()
    change(schema["fields"])
    return schema


def test_older_and_newer_schemas_of_ours_are_resolved() -> None:
    def more(fields: list[Any]) -> None:
        fields.insert(2, {"name": "mood", "type": {"type": "array", "items": "string"}})

    schema = evolved(more)
    got, own = both(schema, written(schema, EVENT | {"mood": ["good"]}))
    assert (own, got) == (True, EVENT)

    def fewer(fields: list[Any]) -> None:
        del fields[6:]

    schema = evolved(fewer)
    text, body = json.dumps(schema), written(schema, {k: EVENT[k] for k in list(EVENT)[:6]})
    assert avro.reader(text, [])(body) == ({k: EVENT[k] for k in list(EVENT)[:6]}, True)
    by_library, own = avro.reader(text, [], plain=False)(body)
    assert (own, {k: v for k, v in by_library.items() if v is not None}) == (
        True, {k: EVENT[k] for k in list(EVENT)[:6]}
    )  # fmt: skip

    def smaller(fields: list[Any]) -> None:
        fields[4]["type"] = {"type": "int"}
        fields[0]["type"] = ["null", "bytes"]

    schema = evolved(smaller)
    got, _ = both(schema, written(schema, EVENT | {"ts": 7, "event_id": b"e-1"}))
    assert (got["ts"], got["event_id"]) == (7, "e-1")


def test_bytes_of_ours_are_text() -> None:
    """A field of theirs stays bytes, also where it has a name of ours in another record."""

    def in_bytes(fields: list[Any]) -> None:
        fields[0]["type"] = fields[2]["type"] = "bytes"
        fields[6]["type"] = ["null", "bytes"]
        fields[9]["type"][1]["fields"][0]["type"] = ["null", "bytes"]
        fields[9]["type"][1]["fields"].append({"name": "user_id", "type": "bytes"})
        fields.append({"name": "blob", "type": "bytes"})

    schema = evolved(in_bytes)
    value: dict[str, Any] = EVENT | {
        "event_id": b"e-1", "user_id": "üser".encode(), "request_id": b"r-1", "blob": b"\xff",
        "context": {"country": b"DE", "device": None, "ts": None, "age": 31, "user_id": b"\xff"},
    }  # fmt: skip
    assert both(schema, written(schema, value)) == (EVENT | {"request_id": "r-1"}, True)
    for plain in (True, False):
        with pytest.raises(RejectedError, match="utf-8") as caught:
            avro.reader(json.dumps(schema), [], plain=plain)(written(schema, value | {"user_id": b"\xff"}))
        assert caught.value.reason == "undecodable"


def test_a_record_of_others_is_read_with_its_references() -> None:
    inner = {"type": "record", "name": "shop.Who", "fields": [{"name": "id", "type": "string"}]}
    outer = {"type": "record", "name": "shop.Click", "fields": [{"name": "who", "type": "shop.Who"}]}
    body = wire(1, b"\x04ab")
    assert both(outer, body, [inner]) == ({"who": {"id": "ab"}}, False)


def record(name: str, *types: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(types)],
    }


def doubling() -> Any:
    """Return a record that has two of a record that has two of another, forty times over."""
    inner: Any = record("r0")
    for n in range(1, 41):
        inner = record(f"r{n}", inner, f"r{n - 1}")
    return inner


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": "null"}, "no bytes"),
        (record("a", {"type": "array", "items": record("b", "null", record("c"))}), "no bytes"),
        (record("a", {"type": "array", "items": {"type": "fixed", "name": "z", "size": 0}}), "no bytes"),
        ({"type": "array", "items": record("b", "int", *["null"] * 9_899)}, "nearly"),
        ({"type": "map", "values": record("b", "int", *["null"] * 40)}, "nearly"),
        ([record(f"b{n}", *["int"] * 2_000) for n in range(6)], "10000 values"),
        (record("a", ["null", "a"]), "itself"),
        (record("a", {"type": "map", "values": record("b", ["null", "a"])}), "itself"),
        (doubling(), "values"),
        (record("a", "nothing"), "no Avro schema"),
        ({"type": "record"}, "no Avro schema"),
        (5, "no Avro schema"),
        (evolved(lambda fields: fields.pop(0)), "no field event_id"),
        (evolved(lambda fields: fields[4].update(type="double")), "ts is written as double"),
        (
            evolved(lambda f: f[1].update(type={"type": "enum", "name": "K", "symbols": ["click"]})),
            "type is written as enum",
        ),
    ],
)  # fmt: skip
def test_schemas_that_cannot_be_used_are_refused(schema: Any, said: str) -> None:
    for plain in (True, False):
        with pytest.raises(RejectedError) as caught:
            avro.reader(json.dumps(schema), [], plain=plain)
        assert caught.value.reason == "unusable_schema"
        assert said in caught.value.detail


@pytest.mark.parametrize(
    "items",
    [
        record("b", *[["null", "string"]] * 300),
        ["null", record("b", *[["null", "string"]] * 300)],
        record("b", record("c", record("d", record("e", "int"))), "null", {"type": "array", "items": "int"}),
        {"type": "array", "items": {"type": "map", "values": record("b", *["long"] * 300)}},
    ],
)
def test_large_items_of_lists_are_read(items: Any) -> None:
    """What takes about a byte for a value is no fault, however many there are."""
    schema = record("a", {"type": "array", "items": items})
    for value in generate_many(fastavro.parse_schema(schema), 3):
        both(schema, written(schema, value))


def test_a_text_that_is_no_schema_is_refused() -> None:
    for text in ("", "{", "[" * 100_000, '{"type": "record", "name": "a", "fields": 5}'):
        with pytest.raises(RejectedError, match="schema"):
            avro.reader(text, [])


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in READERS:
        try:
            read(wire(1, body))
        except RejectedError as exc:
            assert exc.reason == "undecodable"  # noqa: PT017 - what is read is no error


READERS = [
    avro.reader(json.dumps(schema), [], plain=plain)
    for schema in (EVERYTHING, published.avro())
    for plain in (True, False)
]


@pytest.mark.parametrize(
    "body",
    [b"", b"\x02", b"\xff" * 12, b"\x7f" + b"x" * 5, b"\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
)
def test_sizes_that_are_not_there_are_refused(body: bytes) -> None:
    for schema in ("string", "bytes", {"type": "array", "items": "string"}, {"type": "map", "values": "int"}):
        with pytest.raises(RejectedError, match="Avro"):
            avro.reader(json.dumps(schema), [])(wire(1, body))
