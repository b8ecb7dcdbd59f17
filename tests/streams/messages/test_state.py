"""Tokens of a state: what is written is read, and anything else is refused with its field."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import RecRequest, check_request
from headrace.streams.messages.state import LONGEST, PATTERN, Mark, marks_of, token_of

MARKS = st.builds(
    Mark,
    st.sampled_from(["events", "items", "users"]),
    st.integers(0, 99_999),
    st.integers(0, 10**19 - 1),
)
#: Texts that look like tokens, and texts that do not.
TEXTS = st.text(max_size=40) | st.text("1.eium0-9az\n", max_size=40) | st.from_regex(PATTERN)


class Rec:
    key, offset, timestamp, headers = b"u", 0, 1_700_000_000_000, ()

    def __init__(self, at_least: object) -> None:
        told = {"request_id": "r", "user_id": "u", "surface": "home", "at_least": at_least}
        self.value = msgspec.json.encode(told)


def asked(at_least: object) -> RecRequest:
    """Decode a request as a worker does."""
    return Decoder(RecRequest, 65_536, lambda request, _: check_request(request)).one(Rec(at_least))


@settings(max_examples=100, deadline=None)
@given(st.lists(MARKS, max_size=3), st.text("0123456789abcdef", max_size=8))
def test_what_is_written_is_read(marks: list[Mark], models: str) -> None:
    token = token_of(marks, models)
    assert marks_of(token) == marks
    assert asked(token).at_least == token


def test_the_form_that_producers_write() -> None:
    """docs/producer.md has it."""
    assert token_of([Mark("events", 3, 17)]) == "1.e3-17"
    assert token_of([Mark("events", 3, -1), Mark("users", 0, 2)], "9f") == "1.u0-2.m9f"
    assert marks_of("") == []


def test_parts_of_newer_versions_are_ignored() -> None:
    assert marks_of("1.e3-17.zsomething-new.m0") == [Mark("events", 3, 17)]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_any_text_is_a_token_or_is_refused(text: str) -> None:
    if re.fullmatch(PATTERN[1:-1], text) and len(text) <= LONGEST:
        assert all(0 <= mark.partition <= 99_999 and mark.offset >= 0 for mark in marks_of(text))
        return
    with pytest.raises(RejectedError) as refused:
        marks_of(text)
    assert (refused.value.reason, refused.value.field) == ("invalid_field", "at_least")


@pytest.mark.parametrize(
    "bad",
    [
        "2.e3-17", "1.e3", "1.e-1-4", "1.e3-17\n", "1.e3--17", "1.e999999-1", "1.e3-17.", ".", "e3-17", "1 ",
        "1.e٣-1", "1." + "e1-1." * 40 + "e1-1", "1.e3-" + "9" * 20, 17, ["1.e3-17"], {"e": 3}, True,
    ],
)  # fmt: skip
def test_a_bad_token_is_an_invalid_field(bad: object) -> None:
    with pytest.raises(RejectedError) as refused:
        asked(bad)
    assert (refused.value.reason, refused.value.field) == ("invalid_field", "at_least")


def test_null_is_no_token() -> None:
    assert asked(None).at_least == ""
