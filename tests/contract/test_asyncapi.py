"""docs/asyncapi.yaml is the contract that the code keeps.

``python tests/contract/test_asyncapi.py`` writes its schemas anew.
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml  # type: ignore[import-untyped]
from pages import DEFAULTS, DOCS
from references import resolved

from headrace.streams.messages import schemas
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
    _, components = msgspec.json.schema_components(public, ref_template="#/components/schemas/{name}")
    return components


def test_the_schemas_are_those_of_the_code() -> None:
    assert documented()["components"]["schemas"] == generated(), "run: python tests/contract/test_asyncapi.py"


def test_channels_are_the_public_topics() -> None:
    topics = Topics(DEFAULTS)
    public = {topics.events, topics.items, topics.users, topics.requests, topics.dead_letters}
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
    checked = 0
    for message in document["components"]["messages"].values():
        for shown_message in message.get("examples", []):
            name = message["payload"]["$ref"].rpartition("/")[2]
            msgspec.convert(shown_message["payload"], getattr(schemas, name), strict=True)
            checked += 1
    assert checked >= 6


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
