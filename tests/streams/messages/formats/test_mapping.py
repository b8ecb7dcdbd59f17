"""A mapping file turns events of others into ours, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from project import ROOT

from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.formats.mapping import Mapping, read_mapping
from headrace.streams.messages.formats.translated import IgnoredError

THEIRS = {"id": "e-1", "kind": "open", "who": 7, "what": "i-1", "at": 1_767_225_600, "lang": None}
OURS = {"event_id": "e-1", "type": "click", "user_id": "7", "item_id": "i-1", "ts": 1_767_225_600_000}
EVENT: dict[str, Any] = {
    "event_id": "$.id",
    "type": {"path": "$.kind", "map": {"open": "click", "look": "dwell", "star": "like"}},
    "user_id": "$.who",
    "item_id": "$.what",
    "ts": {"path": "$.at", "unit": "s"},
}
EXAMPLE = {"event": msgspec.json.encode(THEIRS).decode(), "becomes": OURS}


def mapping(event: dict[str, Any] | None = None, **more: Any) -> Mapping:
    return Mapping({"event": EVENT | (event or {}), "example": [EXAMPLE], **more})


def mapped(event: dict[str, Any], doc: dict[str, Any], becomes: dict[str, Any]) -> None:
    """Check that fields of a file make of a document these fields of an event, with and without walking."""
    doc = THEIRS | doc
    for plain in (True, False):
        table = {"event": EVENT | event, "example": [EXAMPLE | {"becomes": "refused", "event": "{}"}]}
        assert Mapping(table, plain=plain).event(doc, 5) == OURS | becomes


def test_fields_are_found_and_converted() -> None:
    mapped({}, {}, {})
    mapped({"ts": "$.at"}, {"at": 1_767_225_600_250}, {"ts": 1_767_225_600_250})
    mapped({"ts": "$.at"}, {"at": "2026-01-01T01:00:00.25+01:00"}, {"ts": 1_767_225_600_250})
    mapped({"ts": "$.at"}, {"at": "2026-01-01 00:00:00"}, {})
    mapped({"ts": {"path": "$.at", "unit": "us"}}, {"at": "1767225600000999"}, {})
    mapped({"ts": {"path": "$.at", "unit": "s"}}, {"at": 1_767_225_600.25}, {"ts": 1_767_225_600_250})
    mapped({"ts": "record"}, {}, {"ts": 5})
    mapped({"ts": {"path": "$.no", "default": "record"}}, {}, {"ts": 5})
    mapped({"user_id": ["$.lang", "$.no", "$.id"]}, {}, {"user_id": "e-1"})
    mapped({"event_id": {"join": ["$.who", "$.id"]}}, {}, {"event_id": "7:e-1"})
    mapped({"event_id": {"join": ["$.who", "$.id"], "with": ""}}, {}, {"event_id": "7e-1"})
    mapped({"surface": {"const": "home"}}, {}, {"surface": "home"})
    mapped({"surface": {"path": "$.lang", "default": "home"}}, {}, {"surface": "home"})
    mapped({"position": "$.pos"}, {"pos": "12"}, {"position": 12})
    mapped({"position": "$.pos"}, {}, {})
    mapped({"dwell_ms": {"path": "$.s", "unit": "s"}}, {"s": 1.5}, {"dwell_ms": 1500})
    mapped({"context": {"country": "$.c", "age": "$.a"}}, {"a": 31.0}, {"context": {"age": 31}})
    mapped({"context": {"country": "$.c"}}, {}, {})
    mapped({"scope": {"path": "$.k", "map": {"true": "creator"}}}, {"k": True}, {"scope": "creator"})
    mapped({"scope": {"path": "$.k", "map": {"true": "creator"}}}, {"k": False}, {})


def test_a_long_id_of_an_event_is_its_hash_and_no_other_id_is() -> None:
    long = "x" * 65
    got = mapping({"user_id": "$.no", "event_id": "$.id"} | {"user_id": "$.who"})
    one = got.event(THEIRS | {"id": long, "who": long}, 0)
    two = got.event(THEIRS | {"id": long + "y"}, 0)
    assert len(one["event_id"]) == 32
    assert one["event_id"] != two["event_id"]
    assert one["user_id"] == long  # the reader refuses it: two users must not become one


@pytest.mark.parametrize(
    ("doc", "field"),
    [
        ({"id": None}, "event_id"),
        ({"id": {"a": 1}}, "event_id"),
        ({"kind": "close"}, "type"),
        ({"kind": ["open"]}, "type"),
        ({"who": True}, "user_id"),
        ({"what": 1.5}, "item_id"),
        ({"at": "soon"}, "ts"),
        ({"at": True}, "ts"),
        ({"at": 10**400}, ""),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_the_field(doc: dict[str, Any], field: str) -> None:
    mapping_ = mapping()
    if not field:
        assert mapping_.event(THEIRS | doc, 0)["ts"] > 10**400  # the reader refuses it, as out of range
        return
    with pytest.raises(RejectedError) as caught:
        mapping_.event(THEIRS | doc, 0)
    assert (caught.value.reason, caught.value.field) == ("unmapped", field)


def test_what_is_not_meant_is_ignored() -> None:
    only = mapping(only={"$.kind": ["open", "look"]})
    assert only.event(THEIRS, 0) == OURS
    ignore = mapping(ignore={"$.lang": ["de", 7]})
    others = mapping({"type": EVENT["type"] | {"others": "ignore"}})
    for table, doc in (
        (only, {"kind": "star"}),
        (only, {"kind": None}),
        (only, {"kind": {}}),
        (ignore, {"lang": "de"}),
        (ignore, {"lang": 7}),
        (others, {"kind": "close", "id": None}),
    ):
        with pytest.raises(IgnoredError):
            table.event(THEIRS | doc, 0)
    for doc in ([], None, "open", 5):
        with pytest.raises(IgnoredError):
            only.event(doc, 0)
        with pytest.raises(RejectedError):
            mapping().event(doc, 0)


@pytest.mark.parametrize(
    ("event", "more", "said"),
    [
        ({"user_id": None}, {}, "event.user_id"),
        ({"user_id": "who"}, {}, "begins with $"),
        ({"user_id": "$.["}, {}, "no JSONPath"),
        ({"user_id": []}, {}, "list of paths"),
        ({"user_id": {"path": "$.a", "const": 1}}, {}, "exactly one of"),
        ({"user_id": {"path": "$.a", "unit": "s"}}, {}, "unit"),
        ({"user_id": {"path": "$.a", "trim": True}}, {}, "no 'trim'"),
        ({"ts": {"path": "$.a", "unit": "weeks"}}, {}, "unit"),
        ({"type": {"path": "$.a", "map": {}, "others": "drop"}}, {}, "others"),
        ({"dwell_ms": {"path": "$.a", "default": "long"}}, {}, "default"),
        ({"userid": "$.a"}, {}, "no such field"),
        ({"context": {"city": "$.a"}}, {}, "no such field"),
        ({}, {"only": {"$.a": "b"}}, "a list of"),
        ({}, {"events": {}}, "no [events]"),
        ({}, {"example": []}, "[[example]]"),
        ({}, {"example": [{"event": "{"}]}, "example 1"),
        ({}, {"example": [EXAMPLE, EXAMPLE | {"becomes": "ignored"}]}, "example 2 becomes {"),
        ({}, {"example": [EXAMPLE | {"becomes": OURS | {"ts": 1}}]}, "example 1 becomes"),
        ({"item_id": "$.no"}, {}, "unmapped item_id"),
        ({"item_id": {"const": ""}}, {}, "invalid_field item_id"),
    ],
)
def test_a_wrong_file_is_refused_and_the_message_says_where(
    event: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    table = {name: given for name, given in (EVENT | event).items() if given is not None}
    with pytest.raises(ConfigError) as caught:
        Mapping({"event": table, "example": [EXAMPLE], **more})
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["segment", "snowplow", "ga4"])
def test_the_files_in_the_documentation_make_their_examples(name: str, tmp_path: Path) -> None:
    path = ROOT / "ops" / "mappings" / f"{name}.toml"
    read_mapping(path)
    read_mapping(path, plain=False)
    broken = tmp_path / "m.toml"
    broken.write_text(path.read_text().replace('type = "', 'type = "no-', 1))
    with pytest.raises(ConfigError, match=r"m\.toml: example 1"):
        read_mapping(broken)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    for body, said in ((None, "cannot be read"), (b"a = ", "no TOML"), (b"\xff", "no TOML")):
        if body is not None:
            path.write_bytes(body)
        with pytest.raises(ConfigError, match=said) as caught:
            read_mapping(path)
        assert str(caught.value).count("m.toml") == 1
