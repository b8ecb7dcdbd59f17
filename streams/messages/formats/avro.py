"""Avro with the writer's schema from the registry; an event of ours is resolved to our own schema.

fastavro parses the schemas. Messages are read by a compiled plan (``avro_plan.pyx``), five times as fast as
by fastavro, which is what `headrace verify` reads them with.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader
from fastavro.schema import SchemaParseException, UnknownType

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats import published
from headrace.streams.messages.formats.avro_bounds import PRIMITIVES, Bounds, unusable
from headrace.streams.messages.formats.avro_plan import Plan
from headrace.streams.messages.formats.wire import HEAD

#: What fastavro raises for bytes that are not what the schema says.
_FAULTS: Final = (
    EOFError, ValueError, TypeError, IndexError, KeyError, OverflowError, ArithmeticError, AttributeError,
    StopIteration, AssertionError, MemoryError, RecursionError, SchemaParseException,
)  # fmt: skip
#: What may be written for a type of ours (Avro's resolution).
_RESOLVED: Final = {"string": {"string", "bytes"}, "long": {"int", "long"}, "Context": {"record"}}
_OF = {"event": published.EVENT, "Context": published.CONTEXT}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads messages that were written with a schema, one by one.

    Attributes
    ----------
    read
        Returns the object in a message.
    own
        Whether they are events of ours.
    plan
        What tells many of ours at once; None: nothing does.
    """

    read: Callable[[bytes], Any]
    own: bool
    plan: Plan | None

    def __call__(self, body: bytes) -> tuple[Any, bool]:
        """As ``translator.Reads.read``."""
        try:
            return self.read(body), self.own
        except _FAULTS as exc:
            raise RejectedError("undecodable", "", f"it is not what its Avro schema says: {exc}") from exc


def reader(schema: str, references: Sequence[str], *, plain: bool = True) -> Reader:
    """Return what reads messages that were written with a schema.

    Parameters
    ----------
    schema, references
        The schema, and those that it refers to, each after those that it needs itself.
    plain
        Whether the compiled plan reads them; False: fastavro.

    Raises
    ------
    RejectedError
        ``unusable_schema``: it is none, or records written with it could need any amount of memory.
    """
    named: dict[str, Any] = {}
    try:
        for text in references:
            parse_schema(_plain(json.loads(text)), named)
        parsed: Any = parse_schema(_plain(json.loads(schema)), named)
        Bounds(named).check(parsed)
        own = type(parsed) is dict and parsed.get("name") == published.AVRO_NAME
        if own:
            _check_resolution(parsed, named, "event")
        plan = _plan(parsed, named, "event" if own else "")
    except (ValueError, RecursionError, TypeError, KeyError, UnknownType, SchemaParseException) as exc:
        raise unusable(f"this is no Avro schema: {exc}") from exc
    if plain:
        return Reader(_by_plan(plan), own, plan if own and plan.tells else None)
    return Reader(_by_library(parsed, parse_schema(published.avro()) if own else None), own, None)


def _by_plan(plan: Plan) -> Callable[[bytes], Any]:
    return lambda body: plan.read(body, HEAD)


def _by_library(written: Any, read_as: Any) -> Callable[[bytes], Any]:
    def read(body: bytes) -> Any:
        stream = io.BytesIO(body)
        stream.seek(HEAD)
        found = schemaless_reader(stream, written, read_as)
        if stream.tell() != len(body):
            raise ValueError("bytes are left behind it")
        return found

    return read


def _plain(schema: Any) -> Any:
    """Return a schema without logical types: a time is the number that it is written as."""
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name not in ("logicalType", "doc")}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


def _full(schema: Any, named: dict[str, Any]) -> Any:
    """Return a type by its description, also where it is named alone, and a primitive one by its name."""
    while isinstance(schema, str) and schema not in PRIMITIVES:
        schema = named[schema]
    if isinstance(schema, dict) and (isinstance(schema["type"], dict | list) or schema["type"] in PRIMITIVES):
        return _full(schema["type"], named)
    return schema


def _kind(schema: Any) -> str:
    return schema if isinstance(schema, str) else "union" if isinstance(schema, list) else schema["type"]


def _plan(schema: Any, named: dict[str, Any], of: str) -> Plan:
    """Return how what was written is read as a type of ours (``_OF``, ``_RESOLVED``); empty: as it is."""
    schema = _full(schema, named)
    kind = _kind(schema)
    if kind == "union":
        return Plan(kind, [_plan(branch, named, of) for branch in schema])
    if kind in ("record", "error"):
        ours = {name: type_ for name, type_, _ in _OF.get(of, ())}
        names = [one["name"] for one in schema["fields"]]
        kept = [name if not of or name in ours else None for name in names]
        parts = [_plan(one["type"], named, ours.get(one["name"], "")) for one in schema["fields"]]
        return Plan(kind, parts, kept)
    if kind in ("array", "map"):
        return Plan(kind, [_plan(schema["items" if kind == "array" else "values"], named, "")])
    if kind == "enum":
        return Plan(kind, names=schema["symbols"])
    if kind == "fixed":
        return Plan(kind, size=schema["size"])
    return Plan("string" if (kind, of) == ("bytes", "string") else kind)


def _check_resolution(schema: Any, named: dict[str, Any], of: str) -> None:
    """Raise ``RejectedError`` when a field of ours is written as something else; one may be left out."""
    written = {one["name"]: one for one in schema["fields"]}
    for name, kind, _ in _OF[of]:
        if name not in written:
            if of == "event" and name in published.REQUIRED:
                raise unusable(f"{published.AVRO_NAME} has no field {name}")
            continue
        found = _full(written[name]["type"], named)
        branches = [_full(branch, named) for branch in (found if isinstance(found, list) else [found])]
        for branch in branches:
            if _kind(branch) != "null" and _kind(branch) not in _RESOLVED[kind]:
                raise unusable(f"{published.AVRO_NAME}: {name} is written as {_kind(branch)}, not as {kind}")
            if kind == "Context" and _kind(branch) == "record":
                _check_resolution(branch, named, kind)
