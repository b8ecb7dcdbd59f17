"""Protobuf with the writer's descriptor from the registry; an event of ours is read by our own numbers."""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats import published
from headrace.streams.messages.formats.wire import message_place

#: Files of Google that a schema may import without a reference.
_GOOGLE: Final = {
    f"google/protobuf/{name}.proto": f"google.protobuf.{name}_pb2"
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
}
_KINDS: Final = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "long": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "Context": descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
}
#: What the library raises for a message that it cannot read, or cannot tell as JSON.
_FAULTS: Final = (DecodeError, json_format.Error, ValueError, TypeError, KeyError, OverflowError)


def reader(schema: str, references: Mapping[str, str]) -> Callable[[bytes], tuple[Any, bool]]:
    """Return what reads messages that were written with a schema, and whether they are events of ours.

    Parameters
    ----------
    schema, references
        Descriptors in base64; references by the name that they are imported with.

    Raises
    ------
    RejectedError
        ``unusable_schema``: it is none.
    """
    pool = descriptor_pool.DescriptorPool()
    file = _file(schema)
    try:
        file.name = file.name or "schema.proto"
        for name in (*file.dependency, *(d for text in references.values() for d in _file(text).dependency)):
            _add_of_google(pool, name)
        for name, text in references.items():
            other = _file(text)
            other.name = name
            pool.Add(other)
        pool.Add(file)
        pool.FindFileByName(file.name)
    except (TypeError, KeyError, ValueError) as exc:
        raise _unusable(exc) from exc
    readers: dict[tuple[int, ...], tuple[type[Any], bool]] = {}

    def read(body: bytes) -> tuple[Any, bool]:
        indices, at = message_place(body)
        found = readers.get(indices)
        if found is None:
            found = readers[indices] = _message(pool, file, indices)
        type_, own = found
        try:
            message = type_.FromString(body[at:])
            return (_fields(message) if own else _as_json(message)), own
        except (*_FAULTS, RecursionError) as exc:
            raise RejectedError("undecodable", "", f"it is not what its descriptor says: {exc}") from exc

    return read


def _unusable(why: object) -> RejectedError:
    return RejectedError("unusable_schema", "", f"this is no descriptor of Protobuf: {why}")


def _file(text: str) -> Any:
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError) as exc:
        raise _unusable(f"{exc}; the registry must know ?format=serialized") from exc


def _add_of_google(pool: Any, name: str) -> None:
    if name in _GOOGLE:
        pool.AddSerializedFile(importlib.import_module(_GOOGLE[name]).DESCRIPTOR.serialized_pb)


def _message(pool: Any, file: Any, indices: tuple[int, ...]) -> tuple[type[Any], bool]:
    """Return the class of a message of a file, and whether it is an event of ours."""
    here, name = file.message_type, file.package
    for index in indices:
        if index >= len(here):
            raise RejectedError("undecodable", "", f"its file has no message {indices}")
        name = f"{name}.{here[index].name}" if name else here[index].name
        here = here[index].nested_type
    if name == published.PROTO_NAME:
        return event_type(), True
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name)), False


_NAMES: Final = {number: name for name, _, number in published.EVENT}
_CONTEXT_NAMES: Final = {number: name for name, _, number in published.CONTEXT}


def _fields(message: Any) -> dict[str, Any]:
    """Return the fields of a message of ours that are set."""
    out = {_NAMES[field.number]: value for field, value in message.ListFields()}
    if "context" in out:
        out["context"] = {_CONTEXT_NAMES[field.number]: value for field, value in out["context"].ListFields()}
    return out


def _as_json(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


@lru_cache(maxsize=1)
def event_file() -> Any:
    """Return the descriptor of schemas/event.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="headrace/v1/event.proto", syntax="proto3")
    file.package = published.PROTO_NAME.rpartition(".")[0]
    for name, fields in (("Event", published.EVENT), ("Context", published.CONTEXT)):
        message = file.message_type.add(name=name)
        for at, (field, kind, number) in enumerate(fields):
            one = message.field.add(name=field, number=number, type=_KINDS[kind], proto3_optional=True)
            one.label, one.oneof_index = one.LABEL_OPTIONAL, at
            if kind == "Context":
                one.type_name = f".{file.package}.Context"
            message.oneof_decl.add(name=f"_{field}")
    return file


@lru_cache(maxsize=1)
def event_type() -> type[Any]:
    """Return the class of the messages of schemas/event.proto."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(event_file())
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(published.PROTO_NAME))
    return found
