"""The schemas of an event for producers that write Avro or Protobuf: made from ``schemas.Event``.

They are in schemas/event.avsc and schemas/event.proto; ``headrace schema`` prints them. A number of Protobuf
is never used again. A new field gets the next one, and has a default in Avro: both are read in every
direction.
"""

from __future__ import annotations

import json
from typing import Any, Final

#: Full names by which an event of ours is known in a schema.
AVRO_NAME: Final = "headrace.Event"
PROTO_NAME: Final = "headrace.v1.Event"

#: Fields in the order of ``schemas.Event`` and ``schemas.Context``: name, type, and number in Protobuf.
EVENT: Final[tuple[tuple[str, str, int], ...]] = (
    ("event_id", "string", 1),
    ("type", "string", 2),
    ("user_id", "string", 3),
    ("item_id", "string", 4),
    ("ts", "long", 5),
    ("dwell_ms", "long", 6),
    ("request_id", "string", 7),
    ("position", "long", 8),
    ("surface", "string", 9),
    ("context", "Context", 10),
    ("scope", "string", 11),
)
CONTEXT: Final[tuple[tuple[str, str, int], ...]] = (
    ("country", "string", 1),
    ("device", "string", 2),
    ("ts", "long", 3),
    ("age", "long", 4),
)
REQUIRED: Final = ("event_id", "type", "user_id", "item_id", "ts")
_PROTO: Final = {"string": "string", "long": "int64", "Context": "Context"}


def avro() -> dict[str, Any]:
    """Return the Avro schema. An optional field is null without a value."""
    context = {
        "type": "record",
        "name": "Context",
        "fields": [_optional(name, kind) for name, kind, _ in CONTEXT],
    }
    fields: list[dict[str, Any]] = []
    for name, kind, _ in EVENT:
        if name in REQUIRED:
            fields.append({"name": name, "type": kind})
        else:
            fields.append(_optional(name, context if kind == "Context" else kind))
    return {
        "type": "record",
        "name": "Event",
        "namespace": "headrace",
        "doc": "What a user did with an item. Times are milliseconds since the epoch, UTC.",
        "fields": fields,
    }


def _optional(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None}


def avsc() -> str:
    """Return the Avro schema as the text of schemas/event.avsc."""
    return json.dumps(avro(), indent=2) + "\n"


def proto() -> str:
    """Return the text of schemas/event.proto."""
    lines = [
        "// What a user did with an item. Times are milliseconds since the epoch, UTC.",
        "// event_id, type, user_id, item_id and ts are required: an event without one is a dead letter.",
        'syntax = "proto3";',
        "",
        f"package {PROTO_NAME.rpartition('.')[0]};",
    ]
    for message, fields in (("Event", EVENT), ("Context", CONTEXT)):
        lines += ["", f"message {message} {{"]
        lines += [f"  optional {_PROTO[kind]} {name} = {number};" for name, kind, number in fields]
        lines += ["}"]
    return "\n".join(lines) + "\n"
