"""Avro with the writer's schema from the registry; an event of ours is resolved to our own schema."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader
from fastavro.schema import SchemaParseException, UnknownType

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats import published
from headrace.streams.messages.formats.wire import HEAD

#: Most values that a record of a schema has without counting those of arrays and maps, and deepest nesting.
MOST_FIELDS, DEEPEST = 10_000, 64
#: What fastavro raises for bytes that are not what the schema says.
_FAULTS: Final = (
    EOFError, ValueError, TypeError, IndexError, KeyError, OverflowError, ArithmeticError, AttributeError,
    StopIteration, AssertionError, MemoryError, SchemaParseException,
)  # fmt: skip
_PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def unusable(why: object) -> RejectedError:
    """Return why nothing that was written with a schema can be read."""
    return RejectedError("unusable_schema", "", str(why))


def reader(schema: str, references: Sequence[str]) -> Callable[[bytes], tuple[Any, bool]]:
    """Return what reads messages that were written with a schema, and whether they are events of ours.

    Raises
    ------
    RejectedError
        ``unusable_schema``: it is none, or records written with it could need any amount of memory.
    """
    named: dict[str, Any] = {}
    try:
        for text in references:
            parse_schema(_plain(json.loads(text)), named)
        written = _plain(json.loads(schema))
        parsed: Any = parse_schema(written, named)
        _Bounds(named).check(parsed)
        own = type(parsed) is dict and parsed.get("name") == published.AVRO_NAME
        read_as = parse_schema(published.avro()) if own else None
    except (ValueError, RecursionError, TypeError, KeyError, UnknownType, SchemaParseException) as exc:
        raise unusable(f"this is no Avro schema: {exc}") from exc

    def read(body: bytes) -> tuple[Any, bool]:
        stream = io.BytesIO(body)
        stream.seek(HEAD)
        try:
            found = schemaless_reader(stream, parsed, read_as)
        except (*_FAULTS, RecursionError) as exc:
            raise RejectedError("undecodable", "", f"it is not what its Avro schema says: {exc}") from exc
        if stream.tell() != len(body):
            raise RejectedError("undecodable", "", "bytes are left behind what its Avro schema says")
        return found, own

    return read


def _plain(schema: Any) -> Any:
    """Return a schema without logical types: a time is the number that it is written as."""
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name not in ("logicalType", "doc")}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


class _Bounds:
    """Refuses schemas with which a few bytes may stand for any amount of memory, stack or time."""

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[int, int]] = {}
        self._open: set[str] = set()

    def check(self, schema: Any, depth: int = 0) -> tuple[int, int]:
        """Return the smallest size of a value, bytes, and how many values it has at most, without arrays."""
        if depth > DEEPEST:
            raise unusable(f"it is nested more than {DEEPEST} deep")
        if isinstance(schema, str):
            return self._of_name(schema, depth)
        if isinstance(schema, list):
            each = [self.check(part, depth + 1) for part in schema]
            return 1, 1 + max((count for _, count in each), default=0)
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._of_record(schema, depth)
        if kind in ("array", "map"):
            least, count = self.check(schema["items" if kind == "array" else "values"], depth + 1)
            if kind == "array" and least == 0:
                raise unusable("an array has items of no bytes: a few bytes could stand for any number of them")
            return 1, 1 + count
        if kind == "fixed":
            return int(schema["size"]), 1
        if kind == "enum":
            return 1, 1
        return self.check(kind, depth + 1)

    def _of_name(self, name: str, depth: int) -> tuple[int, int]:
        if name in _PRIMITIVES:
            return int(name != "null"), 1
        if name in self._open:
            raise unusable(f"{name} has itself in it")
        if name not in self._known:
            self._known[name] = self.check(self._named[name], depth + 1)
        return self._known[name]

    def _of_record(self, schema: dict[str, Any], depth: int) -> tuple[int, int]:
        name = schema["name"]
        if name in self._known:
            return self._known[name]
        self._open.add(name)
        each = [self.check(one["type"], depth + 1) for one in schema["fields"]]
        self._open.discard(name)
        least, count = sum(size for size, _ in each), 1 + sum(count for _, count in each)
        if count > MOST_FIELDS:
            raise unusable(f"a record has more than {MOST_FIELDS} values")
        self._known[name] = least, count
        return least, count
