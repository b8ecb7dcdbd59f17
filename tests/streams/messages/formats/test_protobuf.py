"""Protobuf: events of ours by their numbers, messages of others by their descriptors."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from foreign_forms import wire
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats import protobuf, published
from headrace.streams.messages.formats.wire import message_place

Proto = descriptor_pb2.FieldDescriptorProto
EVENT = {
    "event_id": "e-1", "type": "dwell", "user_id": "üser", "item_id": "i", "ts": 1_767_225_600_000,
    "dwell_ms": 0, "context": {"country": "DE", "age": 31},
}  # fmt: skip


def text(file: Any) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def file_of(name: str, package: str, *messages: Any, imports: Any = ()) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    file.dependency.extend(imports)
    file.message_type.extend(messages)
    return file


def message(name: str, *fields: tuple[str, Any], nested: Any = ()) -> Any:
    out = descriptor_pb2.DescriptorProto(name=name)
    for number, (field, kind) in enumerate(fields, 1):
        one = out.field.add(name=field, number=number, label=Proto.LABEL_OPTIONAL)
        if isinstance(kind, str):
            one.type, one.type_name = Proto.TYPE_MESSAGE, kind
        else:
            one.type = kind
    out.nested_type.extend(nested)
    return out


def class_of(files: list[Any], name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


OURS = protobuf.reader(text(protobuf.event_file()), {})


def test_an_event_of_ours_has_the_fields_that_are_set() -> None:
    body = protobuf.event_type()(**EVENT).SerializeToString()
    assert OURS(wire(1, body, b"\0")) == (EVENT, True)
    assert OURS(wire(1, b"", b"\0")) == ({}, True)


def test_newer_fields_are_left_out_and_older_messages_lack_them() -> None:
    newer = protobuf.event_file().__deepcopy__()
    newer.message_type[0].field.add(
        name="mood", number=99, type=Proto.TYPE_STRING, label=Proto.LABEL_OPTIONAL
    )
    body = class_of([newer], published.PROTO_NAME)(**EVENT, mood="good").SerializeToString()
    assert protobuf.reader(text(newer), {})(wire(1, body, b"\0")) == (EVENT, True)


def test_a_message_of_others_is_told_as_json_with_what_it_imports() -> None:
    who = file_of("shop/who.proto", "shop", message("Who", ("id", Proto.TYPE_STRING)))
    inner = message("Inner", ("n", Proto.TYPE_INT64))
    click = message(
        "Click", ("who", ".shop.Who"), ("at", ".google.protobuf.Timestamp"), ("inner", ".shop.Click.Inner"),
        nested=[inner],
    )  # fmt: skip
    imports = ["shop/who.proto", "google/protobuf/timestamp.proto"]
    file = file_of("click.proto", "shop", message("Other", ("x", Proto.TYPE_STRING)), click, imports=imports)
    time = descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    type_ = class_of([who, time, file], "shop.Click")
    body = type_(who={"id": "u"}, at={"seconds": 1_767_225_600}, inner={"n": 5}).SerializeToString()
    read = protobuf.reader(text(file), {"shop/who.proto": text(who)})
    expected = {"who": {"id": "u"}, "at": "2026-01-01T00:00:00Z", "inner": {"n": "5"}}
    assert read(wire(1, body, b"\x02\x02")) == (expected, False)
    inner_body = type_.Inner(n=7).SerializeToString()
    assert read(wire(1, inner_body, b"\x04\x02\0")) == ({"n": "7"}, False)
    assert read(wire(1, b"\x0a\x01x", b"\0")) == ({"x": "x"}, False)
    for index in (b"\x02\x04", b"\x04\x02\x02", b"\x06\x02\0\0"):
        with pytest.raises(RejectedError, match="no message"):
            read(wire(1, b"", index))


@pytest.mark.parametrize(
    "index", [b"", b"\x02", b"\x01", b"\x02\x01", b"\x80" * 9, b"\x7f" * 70, b"\xfe\xff\xff\xff\x0f"]
)
def test_indices_that_are_not_there_are_refused(index: bytes) -> None:
    with pytest.raises(RejectedError) as caught:
        message_place(wire(1, b"", index))
    assert caught.value.reason == "undecodable"


def test_what_is_no_descriptor_is_refused() -> None:
    lacking = file_of("a.proto", "a", message("A", ("b", ".b.B")), imports=["b.proto"])
    for schema in ("?", 'syntax = "proto3";', base64.b64encode(b"\xff\xff").decode(), text(lacking)):
        with pytest.raises(RejectedError) as caught:
            protobuf.reader(schema, {})
        assert caught.value.reason == "unusable_schema"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for index in (b"\0", b""):
        try:
            OURS(wire(1, body, index))
        except RejectedError as exc:
            assert exc.reason == "undecodable"  # noqa: PT017 - what is read is no error
