"""Reads what was written with schemas of a registry; their readers are made once, and kept by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from headrace.streams.errors import NotYetError, RejectedError
from headrace.streams.messages.codec import UNDECODABLE, rejection
from headrace.streams.messages.formats import avro, protobuf
from headrace.streams.messages.formats.at_once import schema_ids
from headrace.streams.messages.formats.avro_plan import Plan
from headrace.streams.messages.formats.registry import Registry, Schema, UnknownSchemaError
from headrace.streams.messages.formats.wire import HEAD, LARGEST_ID, MAGIC, schema_id
from headrace.streams.transport.record_list import RecordList

Read: TypeAlias = Callable[[bytes], tuple[Any, bool]]

#: So long a schema that the registry does not have is asked for: it may have been registered just now, s.
PATIENCE_S: Final = 10.0
#: So long it then counts as unknown, s, and no other one is waited for: garbage has any id. One that was not
#: waited for counts as unknown for ``PATIENCE_S`` only.
UNKNOWN_S: Final = 60.0
#: Most ids of this kind that are remembered, and most that are waited for at once.
MOST_UNKNOWN: Final = 1000
MOST_AWAITED: Final = 10

_json = msgspec.json.Decoder().decode


class Schemas:
    """Readers by the id of the schema.

    Parameters
    ----------
    registry
        Where schemas come from.
    plain
        As of ``avro.reader``.
    """

    def __init__(self, registry: Registry, *, plain: bool = True) -> None:
        self._registry, self._plain = registry, plain
        self._readers: dict[int, Read | RejectedError] = {}
        self._asked: dict[int, float] = {}  # unknown to the registry -> since when it is asked for
        self._unknown: dict[int, float] = {}  # given up -> until when
        self._patient_from = 0.0

    def missing(self, records: Sequence[Any], most_bytes: int, now: float) -> set[int]:
        """Return the ids of the schemas that ``load`` must get before records can be read.

        No registry has an id above ``LARGEST_ID``: it is not asked for one.

        Parameters
        ----------
        most_bytes
            Larger values are not read.
        now
            A clock that only goes forward, s.
        """
        ids = _ids(records, most_bytes)
        return {
            number
            for number in ids
            if number <= LARGEST_ID and number not in self._readers and self._unknown.get(number, 0) <= now
        }

    def load(self, numbers: set[int], now: float) -> None:
        """Get schemas; it waits for the registry, so call it in a thread.

        Parameters
        ----------
        numbers
            Their ids. Each of which it is clear what becomes of its records is taken out, for good: what is
            given up here may be forgotten before all others are clear.

        Raises
        ------
        UnavailableError
            The registry does not answer: call it again with the ids that are left.
        NotYetError
            The registry does not have some of them yet: likewise.
        """
        not_yet: list[int] = []
        for number in sorted(numbers):
            if self._get(number, now):
                numbers.discard(number)
                continue
            not_yet.append(number)
            if len(not_yet) == MOST_AWAITED:
                break
        if not_yet:
            raise NotYetError(f"the registry has no schema {not_yet[0]} yet")

    def _get(self, number: int, now: float) -> bool:
        """Get a schema; return whether it is clear what becomes of records written with it."""
        try:
            self._readers[number] = _reader(self._registry.schema(number), self._plain)
        except UnknownSchemaError:
            waited = now - self._asked.setdefault(number, now) >= PATIENCE_S
            if now >= self._patient_from and not waited:
                return False
            self._give_up(number, now, waited)
        except RejectedError as exc:
            self._readers[number] = exc
        self._asked.pop(number, None)
        return True

    def _give_up(self, number: int, now: float, waited: bool) -> None:
        if len(self._unknown) >= MOST_UNKNOWN:
            self._unknown.clear()
        self._unknown[number] = now + (UNKNOWN_S if waited else PATIENCE_S)
        if waited:
            self._patient_from = now + UNKNOWN_S

    def read(self, body: bytes) -> tuple[Any, bool]:
        """As ``translator.Reads``; every schema must have been loaded."""
        found = self._readers.get(schema_id(body))
        if found is None:
            raise RejectedError("unknown_schema", "", f"the registry has no schema {schema_id(body)}")
        if isinstance(found, RejectedError):
            raise found
        return found(body)

    def plan(self, number: int) -> Plan | None:
        """As ``translator.Reads``."""
        found = self._readers.get(number)
        return found.plan if isinstance(found, avro.Reader) else None


def _ids(records: Sequence[Any], most_bytes: int) -> set[int]:
    """Return the ids of the schemas of records: of those that begin with the magic byte."""
    if isinstance(records, RecordList):
        return set(schema_ids(records, most_bytes)[1].tolist())
    bodies = [r.value for r in records]
    return {
        schema_id(body)
        for body in bodies
        if body is not None and body[:1] == MAGIC and HEAD <= len(body) <= most_bytes
    }


def _reader(schema: Schema, plain: bool) -> Read:
    if schema.kind == "AVRO":
        return avro.reader(schema.schema, [one.schema for one in schema.references], plain=plain)
    if schema.kind == "PROTOBUF":
        return protobuf.reader(schema.schema, {one.name: one.schema for one in schema.references})
    if schema.kind == "JSON":
        return _read_json
    raise RejectedError("unusable_schema", "", f"schemas of the type {schema.kind} are not read")


def _read_json(body: bytes) -> tuple[Any, bool]:
    try:
        return _json(body[HEAD:]), False
    except UNDECODABLE as exc:
        raise rejection(exc) from exc
