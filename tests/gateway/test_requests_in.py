"""Requests for lists from queries and bodies are those of the topic."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.gateway.intake import split_json, split_lines
from headrace.serving.gateway.records import with_field
from headrace.serving.gateway.requests import PARAMETERS, RequestIn
from headrace.streams.errors import RejectedError
from headrace.streams.messages.schemas import Context, RecRequest
from headrace.streams.settings import Settings

READER = RequestIn(Settings())


def query(text: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (pair.partition("=") for pair in text.split("&"))]


def test_a_query_says_what_a_body_says() -> None:
    asked = READER.from_query(
        query(
            "user_id=123&surface=related&n=3&item_id=i&country=DE&device=&age=30&exclude=a&exclude=b&explain=true&deadline_ms=9"
        )
    )
    expected = RecRequest(
        asked.request.request_id, "123", "related", 3, "i", Context("DE", "", None, 30), ["a", "b"], 9, True
    )
    assert asked.request == expected
    assert msgspec.json.decode(asked.body, type=RecRequest) == expected


def test_every_field_with_a_single_value_may_be_in_a_query() -> None:
    told = {f.encode_name for f in msgspec.structs.fields(RecRequest) if f.type in (str, int, bool)}
    assert told <= PARAMETERS.keys()
    assert {f.encode_name for f in msgspec.structs.fields(Context)} <= PARAMETERS.keys()


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("surface=home", "missing_field", "user_id"),
        ("user_id=u&surface=shop", "invalid_field", "surface"),
        ("user_id=u&surface=home&n=501", "invalid_field", "n"),
        ("user_id=u&surface=home&n=", "invalid_field", "n"),
        ("user_id=u&surface=home&n=1&n=2", "invalid_field", "n"),
        ("user_id=u&surface=home&explain=perhaps", "invalid_field", "explain"),
        ("user_id=u&surface=home&age=151", "invalid_field", "age"),
        ("user_id=u&surface=home&context=DE", "invalid_field", "context"),
        ("user_id=u&surface=related", "missing_field", "item_id"),
        ("user_id=u&surface=home&ts=1750000000", "out_of_range", "ts"),
        ("user_id=u&surface=home&exclude=", "invalid_field", "exclude[0]"),
    ],
)
def test_a_bad_query_names_the_parameter(text: str, code: str, field: str) -> None:
    with pytest.raises(RejectedError) as refused:
        READER.from_query(query(text))
    assert (refused.value.reason, refused.value.field) == (code, field)


def test_unknown_parameters_are_ignored_as_unknown_fields_are() -> None:
    assert READER.from_query(query("user_id=u&surface=home&utm_source=x")).request.user_id == "u"


def test_a_body_without_an_id_gets_one_and_keeps_all_else() -> None:
    asked = READER.from_body(b'{"user_id": "u", "surface": "home", "more": {"a": [1, 2.50]}}')
    assert asked.request.request_id.startswith("http-")
    assert b'{"a": [1, 2.50]}' in asked.body
    body = b'{ "request_id": "r", "user_id": "u", "surface": "home" }'
    assert READER.from_body(body).body == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_field_that_is_put_in_changes_no_other(fields: dict[str, Any]) -> None:
    out = msgspec.json.decode(with_field(msgspec.json.encode(fields), "item_id", "x"))
    own = fields.get("item_id")
    assert out == {**fields, "item_id": "x" if own is None else own}


@given(st.lists(JSON, max_size=8), st.sampled_from([None, " ", "\n\t "]))
def test_an_array_is_cut_into_its_elements(values: list[Any], space: str | None) -> None:
    body = msgspec.json.encode(values)
    if space is not None:
        body = space.encode() + msgspec.json.format(body, indent=2) + space.encode()
    assert [msgspec.json.decode(part) for part in split_json(body)] == values
    lines = b"\r\n\n".join(msgspec.json.encode(value) for value in values)
    if values:
        assert [msgspec.json.decode(line) for line in split_lines(lines)] == values


@pytest.mark.parametrize("body", [b"", b" \n", b"[1,", b"[1] 2", b"[1,]"])
def test_what_is_no_json_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(RejectedError) as refused:
        split_json(body)
    assert refused.value.reason in ("empty", "undecodable")
