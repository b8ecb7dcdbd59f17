"""Tells of every record of `events` what it is, and turns it into one of ours.

    is ours already (the scan takes it)     -> as it is
    content-type application/cloudevents... -> CloudEvent, structured
    header ce_specversion                   -> CloudEvent, binary; its data are looked at as below
    first byte 0                            -> written with a schema of the registry; ours in Avro: at once
    any other                               -> JSON

What comes out is an event of ours, or, with a mapping file, a document for it. ``ours`` decides which. So
events of ours and of others may be in one topic, and one that was sent on, which is ours, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np

from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import UNDECODABLE, rejection
from headrace.streams.messages.columns import KIND, Limits, rules_of
from headrace.streams.messages.event_scan import scan_events
from headrace.streams.messages.formats import cloudevents
from headrace.streams.messages.formats.at_once import told_at_once
from headrace.streams.messages.formats.published import REQUIRED
from headrace.streams.messages.formats.translated import NOTHING, IgnoredError, Told, Translated, with_told
from headrace.streams.messages.formats.wire import MAGIC
from headrace.streams.transport.record_list import RecordList

if TYPE_CHECKING:
    from headrace.streams.messages.formats.avro_plan import Plan

_ANY: Final = Limits(1, 0, 0)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Maps(Protocol):
    """Turns a document into an event of ours."""

    def event(self, doc: Any, timestamp: int) -> dict[str, Any]:
        """Return the event, or raise ``IgnoredError`` or ``RejectedError``."""


class Reads(Protocol):
    """Reads what was written with a schema of a registry."""

    def read(self, body: bytes) -> tuple[Any, bool]:
        """Return what ``body`` says, and whether it was written as an event of ours.

        Raises
        ------
        RejectedError
            It is not what its schema says, or its schema cannot be used.
        """

    def plan(self, number: int) -> Plan | None:
        """Return what tells events of ours written with a schema at once; None: they are read alone."""


def ours(doc: Any) -> bool:
    """Return whether a document is an event of ours, right or wrong: it has all required fields."""
    return type(doc) is dict and all(name in doc for name in REQUIRED)


class Translator:
    """Translates records.

    Parameters
    ----------
    max_bytes
        Larger values are left to the reader, which rejects them.
    detect
        Whether headers and the first byte are looked at; otherwise everything is JSON.
    mapping
        What turns documents into events of ours; None: they must be ours.
    schemas
        Reads what was written with a schema; None: such records are rejected.
    """

    def __init__(
        self, max_bytes: int, *, detect: bool, mapping: Maps | None = None, schemas: Reads | None = None
    ) -> None:
        self.max_bytes, self._detect = max_bytes, detect
        self._mapping, self._schemas = mapping, schemas

    def read(self, records: Sequence[Any]) -> Translated:
        """Return records, those of theirs as ours."""
        places = self.doubtful(records)
        if not len(places):
            return Translated(records)
        out, done = Translated(records), np.zeros(len(records), np.bool_)
        some = records
        if isinstance(records, RecordList):
            if self._detect and self._schemas is not None:
                out.records, done = told_at_once(records, self._schemas.plan, self.max_bytes)
                places = places[~done[places]]
            some = list(records.where(places))
        told: dict[int, bytes] = {}
        keyless, left_out = set[int](), set[int]()
        for place, record in zip(places.tolist(), some, strict=True):
            try:
                said = self._told(record)
            except IgnoredError:
                left_out.add(place)
                continue
            except RejectedError as exc:
                out.refused[record.offset] = exc
                said = NOTHING, None
            if said is not None:
                told[place], user = said
                done[place] = True
                if user is not None and record.key != user:
                    keyless.add(place)
        if told or left_out:
            out.records, out.ignored = with_told(out.records, told, keyless, left_out), len(left_out)
        if isinstance(records, RecordList):
            out.theirs = records.where(done)
        else:
            out.theirs = [record for record, theirs in zip(records, done, strict=True) if theirs]
        return out

    def doubtful(self, records: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the places of records that are not certainly ours already."""
        if not isinstance(records, RecordList):
            return np.arange(len(records))
        _, found = scan_events(
            *(records.payload, records.parts, records.offsets, records.timestamps, KIND),
            max_bytes=self.max_bytes,
            **rules_of(0, _ANY, 0),
        )
        return np.flatnonzero(~found)

    def _told(self, record: Any) -> Told | None:
        """Return what a record says as ours; None: it stays as it is."""
        body = record.value
        if body is None or len(body) > self.max_bytes:
            return None
        if self._detect:
            headers = record.headers
            if headers and cloudevents.content_type(headers).startswith(cloudevents.STRUCTURED):
                return self._structured(body, record.timestamp)
            if headers and cloudevents.is_binary(headers):
                return self._binary(body, cloudevents.attributes(headers), record.timestamp)
            if body[:1] == MAGIC:
                doc, is_ours = self._written(body)
                return _told(doc) if is_ours or ours(doc) else self._mapped(doc, record.timestamp)
        if self._mapping is None:
            return None
        doc = _json(body)
        return None if ours(doc) else self._mapped(doc, record.timestamp)

    def _structured(self, body: bytes, timestamp: int) -> Told | None:
        event = _json(body)
        if ours(event):
            return None
        event = cloudevents.check(event)
        data = cloudevents.bytes_in(event)
        if data is not None:
            event["data"] = _json(data)
        return self._cloud_event(event, timestamp)

    def _binary(self, body: bytes, event: dict[str, Any], timestamp: int) -> Told | None:
        if body[:1] == MAGIC:
            event["data"], is_ours = self._written(body)
            if is_ours:
                return _told(event["data"])
        else:
            event["data"] = _json(body)
            if ours(event["data"]):
                return None
        return self._cloud_event(cloudevents.check(event), timestamp)

    def _cloud_event(self, event: dict[str, Any], timestamp: int) -> Told:
        if self._mapping is None:
            return _told(cloudevents.filled(event))
        if type(event.get("data")) is dict and ours(filled := cloudevents.filled(event)):
            return _told(filled)
        return self._mapped(event, timestamp)

    def _written(self, body: bytes) -> tuple[Any, bool]:
        if self._schemas is None:
            raise RejectedError("no_registry", "", "its schema is in a registry: set HEADRACE_REGISTRY_URL")
        return self._schemas.read(body)

    def _mapped(self, doc: Any, timestamp: int) -> Told:
        if self._mapping is None:
            return _told(doc)
        return _told(self._mapping.event(doc, timestamp))


def _json(body: bytes) -> Any:
    try:
        return _decode(body)
    except UNDECODABLE as exc:
        raise rejection(exc) from exc


def _told(doc: Any) -> Told:
    if type(doc) is not dict:
        raise RejectedError("invalid_field", "", "an event is an object")
    user = doc.get("user_id")
    try:
        return _encode(doc), user.encode() if type(user) is str else None
    except (*UNDECODABLE, TypeError, OverflowError, ValueError) as exc:
        raise RejectedError("invalid_field", "", f"it cannot be written as JSON: {exc}") from exc
