"""The published schemas are those of the messages, and the files in schemas/ are what the code prints."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import msgspec
import pytest
from project import ROOT

from headrace.streams.messages.formats import protobuf, published
from headrace.streams.messages.schemas import Context, Event


def kind_of(field: Any) -> str:
    """Return the type of a field of a message in the words of ``published``."""
    kinds = {
        msgspec.inspect.IntType: "long",
        msgspec.inspect.StrType: "string",
        msgspec.inspect.LiteralType: "string",
    }
    types = field.types if isinstance(field, msgspec.inspect.UnionType) else (field,)
    (found,) = [one for one in types if not isinstance(one, msgspec.inspect.NoneType)]
    return "Context" if isinstance(found, msgspec.inspect.StructType) else kinds[type(found)]


@pytest.mark.parametrize(("type_", "fields"), [(Event, published.EVENT), (Context, published.CONTEXT)])
def test_the_schemas_have_the_fields_of_the_messages(type_: Any, fields: Any) -> None:
    info = msgspec.inspect.type_info(type_)
    assert isinstance(info, msgspec.inspect.StructType)
    assert [(name, kind) for name, kind, _ in fields] == [(f.name, kind_of(f.type)) for f in info.fields]
    assert [number for _, _, number in fields] == list(range(1, 1 + len(fields)))
    if type_ is Event:
        assert tuple(f.name for f in info.fields if f.required) == published.REQUIRED


def test_the_files_are_what_the_code_prints() -> None:
    assert (ROOT / "schemas" / "event.avsc").read_text() == published.avsc()
    assert (ROOT / "schemas" / "event.proto").read_text() == published.proto()


def test_the_avro_schema_is_one() -> None:
    parsed = fastavro.parse_schema(json.loads(published.avsc()))
    assert parsed["name"] == published.AVRO_NAME
    assert all(type(field["type"]) is list or "default" not in field for field in parsed["fields"])


def test_the_text_of_protobuf_says_what_the_descriptor_says() -> None:
    lines = [line.split() for line in published.proto().splitlines() if line.startswith("  optional")]
    file = protobuf.event_file()
    kinds = {"string": 9, "int64": 3, "Context": 11}
    told = [(name, kinds[kind], int(number.rstrip(";"))) for _, kind, name, _, number in lines]
    assert told == [(f.name, f.type, f.number) for m in file.message_type for f in m.field]
    assert f"package {file.package};" in published.proto()
