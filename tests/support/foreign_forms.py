"""The same event in every form that is read: key, value and headers of a record."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fastavro
import msgspec
from schema_registry import SchemaRegistry

from headrace.streams.messages.formats import protobuf, published
from headrace.streams.messages.schemas import Event

Form = tuple[bytes | None, bytes, list[tuple[str, bytes]]]

#: Our types -> the names of Segment that ops/mappings/segment.toml has for them.
SEGMENT = {
    "click": "Product Clicked", "dwell": "Product Viewed", "save": "Product Added", "like": "Product Liked",
    "hide": "Product Hidden",
}  # fmt: skip
KINDS = ("json", "structured", "binary", "segment", "avro", "protobuf")


def fields_of(event: Event) -> dict[str, Any]:
    """Return the fields of an event that are set."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    context = {name: part for name, part in found.pop("context").items() if part}
    return {name: part for name, part in found.items() if part is not None} | {"context": context}


def iso_of(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def wire(number: int, body: bytes, index: bytes = b"") -> bytes:
    """Return Confluent's wire format."""
    return b"\0" + number.to_bytes(4, "big") + index + body


@dataclass
class Forms:
    """Writes events; with a registry also Avro and Protobuf."""

    registry: SchemaRegistry | None = None

    def __post_init__(self) -> None:
        if self.registry is not None:
            self.avro_id = self.registry.register("events-value", published.avsc())
            proto = base64.b64encode(protobuf.event_file().SerializeToString()).decode()
            self.proto_id = self.registry.register("events-proto", proto, "PROTOBUF")

    def write(self, kind: str, event: Event) -> Form:
        """Return an event as JSON of ours, or in another form; keys of others are not always the user's."""
        return getattr(self, kind)(event)  # type: ignore[no-any-return]

    def json(self, event: Event) -> Form:
        return event.user_id.encode(), msgspec.json.encode(event), []

    def structured(self, event: Event) -> Form:
        data = fields_of(event)
        cloud = {
            "specversion": "1.0", "id": data["event_id"], "source": "/shop", "type": "com.acme.item",
            "time": iso_of(data.pop("ts")), "datacontenttype": "application/json", "data": data,
        }  # fmt: skip
        kind = ("content-type", b"application/cloudevents+json; charset=UTF-8")
        return b"partition-key", json.dumps(cloud).encode(), [kind]

    def binary(self, event: Event) -> Form:
        data = fields_of(event)
        told = {
            "ce_specversion": "1.0", "ce_id": data.pop("event_id"), "ce_source": "/shop", "ce_type": "item",
            "ce_time": iso_of(data.pop("ts")), "content-type": "application/json",
        }  # fmt: skip
        return (
            event.user_id.encode(),
            json.dumps(data).encode(),
            [(name, text.encode()) for name, text in told.items()],
        )

    def segment(self, event: Event) -> Form:
        properties: dict[str, Any] = {"product_id": event.item_id, "seconds": (event.dwell_ms or 0) / 1000}
        properties["list_id"] = event.request_id
        context = {"location": {"country": event.context.country}}
        told = {
            "type": "track", "event": SEGMENT[event.type], "messageId": event.event_id,
            "userId": event.user_id, "timestamp": iso_of(event.ts), "properties": properties,
            "context": context,
        }  # fmt: skip
        return None, json.dumps(told).encode(), []

    def avro(self, event: Event) -> Form:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, published.avro(), fields_of(event))
        return event.user_id.encode(), wire(self.avro_id, out.getvalue()), []

    def protobuf(self, event: Event) -> Form:
        body = protobuf.event_type()(**fields_of(event)).SerializeToString()
        return event.user_id.encode(), wire(self.proto_id, body, b"\0"), []
