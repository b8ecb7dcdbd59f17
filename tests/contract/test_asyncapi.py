"""docs/asyncapi.yaml is the contract that the code keeps.

``python tests/contract/test_asyncapi.py`` writes its schemas anew.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml  # type: ignore[import-untyped]
from pages import DEFAULTS, DOCS
from references import resolved

from headrace.agents.track_users import FLOW
from headrace.serving.requests.address import (
    FAUST_ID,
    FAUST_TOPIC,
    MAX_CORRELATION_BYTES,
    PLAIN_ID,
    PLAIN_TOPIC,
    SPRING_ID,
    SPRING_PARTITION,
    SPRING_TOPIC,
    TRACEPARENT,
)
from headrace.streams.errors import RejectedError
from headrace.streams.messages import schemas
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.contract import json_schemas
from headrace.streams.messages.nulls import nullable
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import REDRIVEN, dead_letter
from headrace.streams.topics.names import Topics

ASYNCAPI = DOCS / "asyncapi.yaml"


def documented() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text("utf-8"))
    return loaded


def generated() -> dict[str, Any]:
    """Return the JSON Schemas of the public messages, from the code."""
    read = [schemas.Event, schemas.Item, schemas.UserProfile, schemas.RecRequest]
    public = [*map(nullable, read), schemas.RecReply]  # what is read may have nulls
    return json_schemas(public, "#/components/schemas/{name}")


def test_the_schemas_are_those_of_the_code() -> None:
    assert documented()["components"]["schemas"] == generated(), "run: python tests/contract/test_asyncapi.py"


def test_channels_are_the_public_topics() -> None:
    topics = Topics(DEFAULTS)
    asked = {topics.requests, topics.bulk_requests}
    public = {topics.events, topics.items, topics.users, topics.dead_letters, *asked}
    specs = {s.name: s for s in topics.specs(DEFAULTS)}
    channels = {c["address"]: c for c in documented()["channels"].values() if c["address"] is not None}
    assert set(channels) == public
    for name, channel in channels.items():
        kafka = channel["bindings"]["kafka"]
        config = specs[name].config(Settings())
        assert kafka["partitions"] == specs[name].partitions
        assert kafka["topicConfiguration"] == {
            "cleanup.policy": [config["cleanup.policy"]],
            "retention.ms": int(config["retention.ms"]),
        }


def test_references_resolve() -> None:
    assert resolved(documented()) > 15


def test_the_examples_of_the_contract_are_valid_messages() -> None:
    document = documented()
    checked = dict.fromkeys(document["components"]["messages"], 0)
    for name, message in document["components"]["messages"].items():
        for shown_message in message.get("examples", []):
            payload = shown_message["payload"]
            checked[name] += 1
            if name == "deadLetter":
                payload, message = json.loads(payload), document["components"]["messages"]["event"]
            if message["payload"] == {"type": "null"}:
                assert payload is None
                continue
            type_ = message["payload"]["$ref"].rpartition("/")[2]
            msgspec.convert(payload, getattr(schemas, type_), strict=True)
            assert accepts(type_, payload)
    assert [name for name, count in checked.items() if not count] == []
    assert sum(checked.values()) >= 9


def test_the_example_of_a_dead_letter_is_what_the_code_writes() -> None:
    message = documented()["components"]["messages"]["deadLetter"]
    (shown,) = message["examples"]
    told = shown["headers"]

    class Refused:
        key, value, offset = b"user-42", shown["payload"].encode(), int(told["origin-offset"])
        timestamp, headers = int(told["origin-timestamp"]), (("source", b"app"),)

    event = msgspec.json.decode(Refused.value, type=schemas.Event)
    with pytest.raises(RejectedError) as refusal:
        schemas.check_event(event, Refused.timestamp, DEFAULTS.lateness_ms, DEFAULTS.future_ms)
    why = {"reason": refusal.value.reason, "field": refusal.value.field, "detail": refusal.value.detail}
    letter = dead_letter(Refused, "events", int(told["origin-partition"]), agent=FLOW.name, **why)
    assert {name: value.decode() for name, value in letter[3]} == told
    assert letter[:2] == (Refused.key, Refused.value)


# --- what the schemas say beyond single fields ---


def accepts(name: str, message: Any) -> bool:
    """Return whether the schema of the contract takes a message."""
    document = documented()
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return bool(jsonschema_rs.is_valid(schema, message))


CLICK = {"event_id": "e", "user_id": "u", "item_id": "i", "ts": 1_767_225_600_000, "type": "click"}
HOME = {"request_id": "r", "user_id": "u", "surface": "home"}
RELATED = {"surface": "related"}


@pytest.mark.parametrize(
    ("name", "message", "good"),
    [
        ("Event", CLICK, True),
        ("Event", CLICK | {"dwell_ms": None}, True),
        ("Event", CLICK | {"type": "dwell"}, False),
        ("Event", CLICK | {"type": "dwell", "dwell_ms": None}, False),
        ("Event", CLICK | {"type": "dwell", "dwell_ms": 0}, True),
        ("Event", CLICK | {"type": "look"}, False),
        ("Event", CLICK | {"surface": "shelf"}, False),
        ("RecRequest", HOME, True),
        ("RecRequest", HOME | RELATED, False),
        ("RecRequest", HOME | RELATED | {"item_id": ""}, False),
        ("RecRequest", HOME | RELATED | {"item_id": None, "lists": None}, False),
        ("RecRequest", HOME | RELATED | {"item_id": "i"}, True),
        ("RecRequest", HOME | RELATED | {"lists": []}, False),
        ("RecRequest", HOME | RELATED | {"lists": [{"surface": "home"}]}, True),
        ("RecRequest", HOME | {"lists": [RELATED]}, False),
        ("RecRequest", HOME | {"lists": [RELATED | {"item_id": "i"}]}, True),
        ("RecRequest", HOME | {"lists": [{"surface": "home"}], "candidates": ["i"]}, False),
        ("RecRequest", HOME | {"lists": [{"surface": "home"}], "candidates": []}, True),
        ("RecRequest", HOME | {"lists": [], "candidates": ["i"]}, True),
        ("RecRequest", HOME | {"lists": [{"surface": "home"}], "request_id": "r" * 63}, False),
        ("RecRequest", HOME | {"request_id": "r" * 63}, True),
    ],
)
def test_the_schemas_refuse_what_the_code_refuses(name: str, message: dict[str, Any], good: bool) -> None:
    assert accepts(name, message) == good
    body = json.dumps(message).encode()
    assert taken(name, body) == good


def taken(name: str, body: bytes) -> bool:
    """Return whether the code takes a message."""

    def check(message: Any, record: Any) -> None:
        if name == "Event":
            schemas.check_event(message, message.ts, DEFAULTS.lateness_ms, DEFAULTS.future_ms)
        else:
            schemas.check_request(message)

    class Record:
        key, value, offset, timestamp, headers = b"u", body, 0, 1_767_225_600_000, ()

    try:
        Decoder(getattr(schemas, name), DEFAULTS.max_event_bytes, check).one(Record)
    except RejectedError:
        return False
    return True


def test_times_have_64_bits() -> None:
    """Generated code has 32 bits for an integer without a format."""
    large = 0
    for name, schema in documented()["components"]["schemas"].items():
        for field, shape in schema.get("properties", {}).items():
            for kind in shape.get("anyOf", [shape]):
                if kind.get("type") == "integer" and kind.get("maximum", 0) > 2**31 - 1:
                    assert kind.get("format") == "int64", (name, field)
                    large += 1
    assert large >= 5


def test_no_enum_is_anonymous() -> None:
    def anonymous(node: Any) -> int:
        if isinstance(node, dict):
            return ("enum" in node) + sum(anonymous(value) for value in node.values())
        return sum(map(anonymous, node)) if isinstance(node, list) else 0

    found = documented()["components"]["schemas"]
    enums = [name for name, schema in found.items() if "enum" in schema]
    assert enums == ["EventType", "Scope", "Surface"]
    assert anonymous(found) == len(enums)


def test_headers_of_bytes_are_binary() -> None:
    messages = documented()["components"]["messages"]
    told = messages["recRequest"]["headers"]["properties"]
    binary = {name for name, header in told.items() if header.get("format") == "binary"}
    assert binary == {PLAIN_ID, SPRING_ID, FAUST_ID, SPRING_PARTITION}
    assert set(told) == binary | {PLAIN_TOPIC, SPRING_TOPIC, FAUST_TOPIC, TRACEPARENT}
    assert all(told[name]["maxLength"] == MAX_CORRELATION_BYTES for name in binary - {SPRING_PARTITION})
    assert set(messages["recReply"]["headers"]["properties"]) == binary - {SPRING_PARTITION}


def test_dead_letter_headers_are_those_of_the_code() -> None:
    class Refused:
        key, value, offset, timestamp = b"k", None, 3, 4
        headers = (("h", b"x" * 40_000), (REDRIVEN, b"3-42/1"))

    written = {name for name, _ in dead_letter(Refused, "events", 0, agent="a", reason="r")[3]}
    headers = documented()["components"]["messages"]["deadLetter"]["headers"]
    assert set(headers["properties"]) == written
    at_times = {"origin-null", "origin-headers-dropped", "origin-letter", "redriven"}
    assert set(headers["required"]) == written - at_times


def rewrite_schemas() -> None:
    """Write the schemas of docs/asyncapi.yaml anew."""
    marker = "  schemas: # generated\n"
    head, found, _ = ASYNCAPI.read_text("utf-8").partition(marker)
    assert found, f"{ASYNCAPI} lacks the line {marker.strip()!r}"
    body = yaml.safe_dump(generated(), sort_keys=False, allow_unicode=True, width=110)
    indented = "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    ASYNCAPI.write_text(head + marker + indented, "utf-8")


if __name__ == "__main__":
    rewrite_schemas()
