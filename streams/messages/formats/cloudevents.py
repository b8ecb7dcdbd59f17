"""CloudEvents 1.0 in Kafka: structured (the record is the whole event) and binary (attributes in headers)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats.conversions import hashed, iso

#: Content type of the structured mode in JSON; the binary mode has ``SPEC`` as a header.
STRUCTURED: Final = b"application/cloudevents"
CONTENT_TYPE: Final = "content-type"
PREFIX: Final = "ce_"
SPEC: Final = "ce_specversion"

Headers = Sequence[tuple[str, bytes | None]]


def content_type(headers: Headers) -> bytes:
    """Return the content type of a record without its parameters, in small letters; empty without one."""
    for name, value in headers:
        if name.lower() == CONTENT_TYPE:
            return (value or b"").partition(b";")[0].strip().lower()
    return b""


def is_binary(headers: Headers) -> bool:
    """Return whether a record is a CloudEvent in binary mode."""
    return any(name == SPEC for name, _ in headers)


def attributes(headers: Headers) -> dict[str, Any]:
    """Return the attributes of a CloudEvent in binary mode."""
    found = {
        name[len(PREFIX) :]: (value or b"").decode("utf-8", "replace")
        for name, value in headers
        if name.startswith(PREFIX)
    }
    found.pop("data", None)  # no attribute has this name
    kind = content_type(headers)
    return found | ({"datacontenttype": kind.decode("utf-8", "replace")} if kind else {})


def check(event: Any) -> dict[str, Any]:
    """Return a CloudEvent, structured or put together, that has what the specification demands.

    Raises
    ------
    RejectedError
        It has not.
    """
    if type(event) is not dict:
        raise RejectedError("invalid_field", "", "a CloudEvent is a JSON object")
    for name in ("specversion", "id", "source", "type"):
        value = event.get(name)
        if value is None:
            raise RejectedError("missing_field", name, f"a CloudEvent has a {name}")
        if type(value) is not str or not value:
            raise RejectedError("invalid_field", name, f"the {name} of a CloudEvent is a text")
    if not event["specversion"].startswith("1."):
        raise RejectedError("invalid_field", "specversion", "CloudEvents 1.x are read")
    return event


def bytes_in(event: dict[str, Any]) -> bytes | None:
    """Return the data of a structured CloudEvent that has it as bytes (``data_base64``), else None."""
    written = event.get("data_base64")
    if written is None:
        return None
    try:
        return base64.b64decode(written, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RejectedError("invalid_field", "data_base64", "this is not base64") from None


def filled(event: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a CloudEvent; its id and its time stand for those that the data lack.

    A CloudEvent is identified by ``source`` and ``id`` together: two sources may count alike.
    """
    data = event.get("data")
    if type(data) is not dict:
        raise RejectedError("invalid_field", "data", "the data of the CloudEvent are no JSON object")
    out = dict(data)
    if out.get("event_id") is None:
        out["event_id"] = hashed(f"{event['source']}\n{event['id']}")
    if out.get("ts") is None and event.get("time") is not None:
        try:
            out["ts"] = iso(event["time"])
        except ValueError as exc:
            raise RejectedError("invalid_field", "time", str(exc)) from exc
    return out
