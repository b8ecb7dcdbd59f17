"""Decodes whole batches: with a fast loop; with slower ones when a record has nulls, or is bad.

Every value is decoded on its own. Joining the values into one JSON array would be 5 % faster, but two
manipulated records could then be read as two others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from headrace.streams.errors import RejectedError
from headrace.streams.messages.nulls import NullTolerant
from headrace.streams.messages.schemas import MAX_TS, MIN_TS

T = TypeVar("T")

#: What msgspec raises for bytes that it cannot decode; it gives up at deep nesting, too.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Record(Protocol):
    """The attributes of a Kafka record that are used here."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int
    headers: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class Decoded(Generic[T]):
    """A decoded batch.

    Attributes
    ----------
    values, records
        ``values[i]`` is the decoded value of ``records[i]``, in the order of the batch.
    rejects
        Every other record, with the reason.
    """

    values: list[T]
    records: list[Any]
    rejects: list[tuple[Any, RejectedError]]


_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
#: The bounds that every time has.
_TIME = re.compile(rf"(>= {MIN_TS}|<= {MAX_TS})(?![0-9])")


def rejection(exc: Exception) -> RejectedError:
    """Return an error of msgspec as ``RejectedError``, with a reason and the path of the field."""
    if isinstance(exc, RejectedError):
        return exc
    text = str(exc)
    if not isinstance(exc, msgspec.ValidationError):
        return RejectedError("undecodable", "", text)
    path = m.group(1) if (m := _PATH.search(text)) else ""
    if m := _MISSING.search(text):
        return RejectedError("missing_field", f"{path}.{m.group(1)}" if path else m.group(1), text)
    if _TIME.search(text):
        return RejectedError("out_of_range", path, f"{text}: times are milliseconds since 1970")
    return RejectedError("invalid_field", path, text)


def check_key(record: Record, field: str, value: str) -> None:
    """Raise ``RejectedError`` when the key of a record is not ``value``.

    The key decides the partition, and the state is kept by partition. With two keys, the events of one user
    would be in two rows.
    """
    if record.key != value.encode():
        raise RejectedError("wrong_key", field, f"the record's key must be its {field}")


class Decoder(Generic[T]):
    """Typed JSON decoder of record values. Null for an optional field is as if the field were absent.

    Parameters
    ----------
    type_
        The msgspec Struct of a value.
    max_bytes
        Larger values are rejected without decoding.
    check
        Called with the value and its record; raises ``RejectedError`` for faults that types cannot express.
    all_sound
        Called with the values and records of a batch, if given: whether ``check`` accepts them all. It is
        quicker than one after the other.
    """

    def __init__(
        self,
        type_: type[T],
        max_bytes: int,
        check: Callable[[T, Any], None] | None = None,
        all_sound: Callable[[Sequence[T], Sequence[Any]], bool] | None = None,
    ) -> None:
        self._strict = msgspec.json.Decoder(type_).decode
        self._tolerant = NullTolerant(type_).decode
        self._max_bytes = max_bytes
        self._check, self._all_sound = check, all_sound

    def one(self, record: Record) -> T:
        """Return the decoded value of one record, or raise ``RejectedError``."""
        body = record.value
        if body is None:
            raise RejectedError("empty", "", "the record has no value")
        if len(body) > self._max_bytes:
            raise RejectedError("too_large", "", f"{len(body)} bytes, at most {self._max_bytes} are accepted")
        value = self.value(body)
        if self._check is not None:
            self._check(value, record)
        return value

    def value(self, body: bytes | str) -> T:
        """Return the value of one message alone, without the check, or raise ``RejectedError``."""
        try:
            try:
                return self._strict(body)
            except msgspec.ValidationError:
                return self._tolerant(body)
        except UNDECODABLE as exc:
            raise rejection(exc) from exc

    def batch(self, records: Sequence[Any]) -> Decoded[T]:
        """Decode many records; the good ones keep their order."""
        limit = self._max_bytes
        bodies = [r.value for r in records]
        try:
            if max(map(len, bodies), default=0) > limit:
                return self._each(records)
            values = self._all(bodies)
        except (*UNDECODABLE, TypeError):
            return self._each(records)
        if self._check is None or (self._all_sound is not None and self._all_sound(values, records)):
            return Decoded(values, list(records), [])
        return self._checked(values, records)

    def _all(self, bodies: Sequence[bytes]) -> list[T]:
        strict, tolerant = self._strict, self._tolerant
        try:
            return [strict(body) for body in bodies]
        except msgspec.ValidationError:
            return [tolerant(body) for body in bodies]

    def _checked(self, values: list[T], records: Sequence[Any]) -> Decoded[T]:
        check = self._check
        assert check is not None  # noqa: S101 - narrowed by the only caller
        out: Decoded[T] = Decoded([], [], [])
        for value, record in zip(values, records, strict=True):
            try:
                check(value, record)
            except RejectedError as exc:
                out.rejects.append((record, exc))
                continue
            out.values.append(value)
            out.records.append(record)
        return out

    def _each(self, records: Sequence[Any]) -> Decoded[T]:
        out: Decoded[T] = Decoded([], [], [])
        for record in records:
            try:
                out.values.append(self.one(record))
                out.records.append(record)
            except RejectedError as exc:
                out.rejects.append((record, exc))
        return out
