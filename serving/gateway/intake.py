"""Events, items and profiles as they come over HTTP, with the checks and reasons of their topics. Pure."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from headrace.serving.gateway.records import Fresh, with_field
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import UNDECODABLE, Decoder, check_key, rejection
from headrace.streams.messages.schemas import Event, Item, UserProfile, check_event
from headrace.streams.settings import Settings

T = TypeVar("T", Item, UserProfile)


class EventVerdict(NamedTuple):
    """What becomes of one event: ``record`` is written, or ``refused`` says why not."""

    event_id: str
    record: Fresh | None
    refused: RejectedError | None


class _EventId(msgspec.Struct):
    event_id: str = ""


class EventsIn:
    """Reads events: one JSON object, a JSON array of them, or one on each line.

    An event is taken if and only if ``track_users`` would take the record that is written: it is decoded and
    checked by the same code, with the timestamp and the key that the record will have.
    """

    def __init__(self, settings: Settings) -> None:
        self._lateness_ms, self._future_ms = settings.lateness_ms, settings.future_ms
        self._decoder = Decoder(Event, settings.max_event_bytes, self._check)

    def _check(self, event: Event, record: Any) -> None:
        check_event(event, record.timestamp, self._lateness_ms, self._future_ms)

    def read(self, body: bytes, lines: bool, now_ms: int) -> list[EventVerdict]:
        """Return a verdict on every event of a body, in their order.

        Parameters
        ----------
        lines
            Whether the body has one event on each line. Empty lines are left out.
        now_ms
            The timestamp that the records get, ms.

        Raises
        ------
        RejectedError
            When the body as a whole is empty or no JSON.
        """
        bodies = split_lines(body) if lines else split_json(body)
        return [self._one(event, now_ms) for event in bodies]

    def _one(self, body: bytes, now_ms: int) -> EventVerdict:
        try:
            event = self._decoder.one(Fresh(None, body, now_ms))
        except RejectedError as exc:
            return EventVerdict(_event_id(body), None, exc)
        return EventVerdict(event.event_id, Fresh(event.user_id.encode(), body, now_ms), None)


def split_lines(body: bytes) -> list[bytes]:
    """Return the lines that are not empty; raise ``RejectedError`` when there is none."""
    lines = [line.strip(b" \t\r") for line in body.split(b"\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise RejectedError("empty", "", "the body is empty")
    return lines


def split_json(body: bytes) -> list[bytes]:
    """Return the elements of a JSON array, or the body if it is none; raises ``RejectedError``."""
    body = body.strip(b" \t\r\n")
    if not body:
        raise RejectedError("empty", "", "the body is empty")
    if not body.startswith(b"["):
        return [body]
    try:
        return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except UNDECODABLE as exc:
        raise rejection(exc) from exc


def _event_id(body: bytes) -> str:
    """Return the id of an event that is refused, if it can be read."""
    try:
        return msgspec.json.decode(body, type=_EventId).event_id[:64]
    except UNDECODABLE:
        return ""


class RowIn(Generic[T]):
    """Reads items, or profiles: the body of a PUT. The id is in the path; in the body it may be left out.

    Parameters
    ----------
    type_, field
        The message, and its field with the id.
    max_bytes
        Larger messages are refused, as in the topic.
    """

    def __init__(self, type_: type[T], field: str, max_bytes: int) -> None:
        self.field = field
        self._decoder: Decoder[T] = Decoder(type_, max_bytes, self._check)

    def _check(self, value: T, record: Any) -> None:
        check_key(record, self.field, getattr(value, self.field))

    def read(self, row_id: str, body: bytes, now_ms: int) -> Fresh:
        """Return the record to write; raise ``RejectedError`` when the topic would not take it."""
        record = Fresh(row_id.encode(), with_field(body, self.field, row_id), now_ms)
        try:
            self._decoder.one(record)
        except RejectedError as exc:
            if exc.reason == "wrong_key":
                raise RejectedError("invalid_field", self.field, "another id than that of the path") from exc
            raise
        return record
