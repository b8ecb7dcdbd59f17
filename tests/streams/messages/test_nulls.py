"""Null for an optional field is absent: for every one of every public message, on every path in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, record

from headrace.serving.requests.read import RequestReader
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.files import read_jsonl
from headrace.streams.messages.nulls import NullTolerant
from headrace.streams.messages.schemas import (
    AnyNone,
    Context,
    Event,
    Filters,
    Item,
    ListRequest,
    RecRequest,
    UserProfile,
)
from headrace.streams.settings import Settings

MAX = 65_536
WHOLE: dict[type[Any], dict[str, Any]] = {
    Event: {
        "event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": T0, "dwell_ms": 5,
        "request_id": "r", "position": 3, "surface": "home", "context": {"country": "DE", "device": "tv"},
        "scope": "creator",
    },
    Item: {
        "item_id": "i", "published_ts": T0, "title": "t", "category": "c", "tags": ["a"], "creator_id": "x",
        "language": "de", "duration_ms": 9, "countries": ["DE"], "blocked_countries": ["FR"], "min_age": 18,
        "flags": ["f"], "boost": 2.5, "vector": [0.5, -2.0],
    },
    UserProfile: {
        "user_id": "u", "country": "DE", "age": 30, "language": "de", "preferred_categories": ["c"],
        "followed_creators": ["x"],
    },
    RecRequest: {
        "request_id": "r", "user_id": "u", "surface": "home", "n": 7, "item_id": "i",
        "context": {"country": "DE", "device": "tv", "ts": T0}, "exclude": ["j"], "deadline_ms": 99,
        "explain": True, "seen": ["k"], "candidates": ["l"], "at_least": "1.e3-17", "caller": "shop",
        "lists": [
            {"surface": "related", "n": 3, "item_id": "i", "filters": {"tags": {"any": ["a"], "none": []}}}
        ],
        "filters": {
            "category": {"any": ["c"], "none": ["d"]}, "creator": {"any": ["x"], "none": ["y"]},
            "language": {"any": ["de"], "none": ["en"]}, "tags": {"any": ["a"], "none": ["b"]},
            "published_after": T0,
        },
    },
}  # fmt: skip
OPTIONAL = [(t, f.name) for t in WHOLE for f in msgspec.structs.fields(t) if not f.required]
REQUIRED = [(t, f.name) for t in WHOLE for f in msgspec.structs.fields(t) if f.required]


def encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def read(type_: type[Any], fields: dict[str, Any]) -> Any:
    """Return the value of a message that a batch of three good ones surrounds."""
    good = record(encoded(WHOLE[type_]))
    out = Decoder(type_, MAX).batch([good, record(encoded(fields)), good])
    assert not out.rejects
    assert [out.values[0], out.values[2]] == [msgspec.convert(WHOLE[type_], type_)] * 2
    return out.values[1]


def test_the_messages_here_have_every_field() -> None:
    assert all({f.name for f in msgspec.structs.fields(t)} == fields.keys() for t, fields in WHOLE.items())
    assert len(OPTIONAL) == 35


@pytest.mark.parametrize(("type_", "name"), OPTIONAL, ids=lambda v: getattr(v, "__name__", v))
def test_null_is_absent(type_: type[Any], name: str) -> None:
    fields = WHOLE[type_]
    absent = read(type_, {n: v for n, v in fields.items() if n != name})
    found = read(type_, {**fields, name: None})
    assert found == absent
    assert type(found) is type_
    assert getattr(found, name) == getattr(absent, name)
    assert Decoder(type_, MAX).one(record(encoded({**fields, name: None}))) == absent, "one by one, too"


@pytest.mark.parametrize("type_", WHOLE)
def test_all_at_once_as_jackson_writes_them(type_: type[Any]) -> None:
    required = {n: v for n, v in WHOLE[type_].items() if (type_, n) in REQUIRED}
    assert read(type_, {**dict.fromkeys(WHOLE[type_]), **required}) == read(type_, required)


@pytest.mark.parametrize("type_", [Event, RecRequest])
@pytest.mark.parametrize("name", ["country", "device", "ts", "age"])
def test_null_in_the_context(type_: type[Any], name: str) -> None:
    context = {"country": "DE", "device": "tv", "ts": T0, "age": 30, name: None}
    found = read(type_, {**WHOLE[type_], "context": context})
    assert type(found.context) is Context
    assert found.context == msgspec.convert({n: v for n, v in context.items() if v is not None}, Context)


@pytest.mark.parametrize("name", ["category", "creator", "language", "tags", "published_after"])
def test_null_in_the_filters(name: str) -> None:
    whole = WHOLE[RecRequest]["filters"]
    found = read(RecRequest, {**WHOLE[RecRequest], "filters": {**whole, name: None}}).filters
    assert found == msgspec.convert({n: v for n, v in whole.items() if n != name}, Filters)
    if name != "published_after":
        inner = {**whole, name: {**whole[name], "any": None}}
        found = read(RecRequest, {**WHOLE[RecRequest], "filters": inner}).filters
        assert getattr(found, name) == AnyNone([], whole[name]["none"])


@pytest.mark.parametrize("name", ["n", "item_id", "filters"])
def test_null_in_a_list_of_a_page(name: str) -> None:
    (whole,) = WHOLE[RecRequest]["lists"]
    found = read(RecRequest, {**WHOLE[RecRequest], "lists": [whole, {**whole, name: None}]}).lists
    absent = {n: v for n, v in whole.items() if n != name}
    assert found == [msgspec.convert(whole, ListRequest), msgspec.convert(absent, ListRequest)]
    assert {type(one) for one in found} == {ListRequest}
    for wrong, field in (({**whole, "surface": None, name: None}, "lists[0].surface"), (None, "lists[0]")):
        body = encoded({**WHOLE[RecRequest], "lists": [wrong]})
        ((_, error),) = Decoder(RecRequest, MAX).batch([record(body)]).rejects
        assert (error.reason, error.field) == ("invalid_field", field)


@pytest.mark.parametrize(("type_", "name"), REQUIRED, ids=lambda v: getattr(v, "__name__", v))
def test_null_for_a_required_field_is_refused(type_: type[Any], name: str) -> None:
    nulls = {n: None for t, n in OPTIONAL if t is type_}
    for others in ({}, nulls):
        body = encoded({**WHOLE[type_], **others, name: None})
        ((_, error),) = Decoder(type_, MAX).batch([record(body)]).rejects
        assert (error.reason, error.field) == ("invalid_field", name)


@pytest.mark.parametrize(
    ("type_", "changes", "reason", "field"),
    [
        (Item, {"title": None, "tags": ["a", None]}, "invalid_field", "tags[1]"),
        (Event, {"request_id": None, "position": -1}, "invalid_field", "position"),
        (Event, {"request_id": None, "context": {"country": 7, "device": None}}, "invalid_field",
         "context.country"),
        (Event, {"context": None, "ts": T0 // 1000}, "out_of_range", "ts"),
        (RecRequest, {"n": None, "exclude": [None]}, "invalid_field", "exclude[0]"),
    ],
)  # fmt: skip
def test_other_faults_are_named_as_without_nulls(
    type_: type[Any], changes: dict[str, Any], reason: str, field: str
) -> None:
    ((_, error),) = Decoder(type_, MAX).batch([record(encoded({**WHOLE[type_], **changes}))]).rejects
    assert (error.reason, error.field) == (reason, field)


def test_defaults_are_not_shared() -> None:
    body = record(encoded({**WHOLE[Item], "tags": None}))
    a, b = Decoder(Item, MAX).batch([body, body]).values
    a.tags.append("x")
    assert b.tags == []


@given(st.sampled_from(list(WHOLE)), st.data())
def test_what_the_type_itself_takes_is_read_alike(type_: type[Any], data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from([n for t, n in OPTIONAL if t is type_])))
    body = encoded({n: v for n, v in WHOLE[type_].items() if n not in names})
    assert NullTolerant(type_).decode(body) == msgspec.json.decode(body, type=type_)


def test_a_request_and_a_file_for_replay(tmp_path: Path) -> None:
    nulls = dict.fromkeys(name for t, name in OPTIONAL if t is RecRequest)
    request = record(encoded({**WHOLE[RecRequest], **nulls}))
    request.headers = [("reply_to", b"rec-replies"), ("correlation_id", b"1")]
    ((job, _, _),), rejects = RequestReader(Settings()).read([request])
    assert (job, rejects) == (RecRequest("r", "u", "home"), [])
    path = tmp_path / "events.jsonl"
    path.write_bytes(encoded({**WHOLE[Event], "request_id": None, "context": {"country": None}}) + b"\n")
    (event,) = read_jsonl(path)
    assert (event.request_id, event.context) == ("", Context())
