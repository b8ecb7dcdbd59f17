from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.errors import RejectedError
from headrace.streams.messages.columns import (
    ITEM_EVENT,
    KIND,
    KINDS,
    event_columns,
)
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import (
    MAX_TS,
    Context,
    ErrorInfo,
    Event,
    Example,
    Impression,
    Item,
    RecItem,
    RecReply,
    RecRequest,
    check_event,
)

T = 1_700_000_000_000


def event(**changes: Any) -> Event:
    return Event(**{"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": T, **changes})


@given(st.integers(0, MAX_TS), st.integers(0, MAX_TS), st.integers(0, 10**7), st.integers(0, 10**6))
def test_late_and_future_are_verdicts_on_the_record_alone(sent: int, ts: int, late: int, ahead: int) -> None:
    def verdict() -> str:
        try:
            check_event(event(ts=ts), sent, late, ahead)
        except RejectedError as exc:
            return exc.reason
        return "accepted"

    expected = "too_late" if sent - ts > late else "from_the_future" if ts - sent > ahead else "accepted"
    assert verdict() == verdict() == expected


@pytest.mark.parametrize(
    ("type_", "text", "field"),
    [
        (Item, '{"item_id":"i","published_ts":1700000000000,"boost":-1}', "boost"),
        (Item, '{"item_id":"i","published_ts":1700000000000,"boost":1e999}', "boost"),
        (Item, '{"item_id":"i","published_ts":1700000000000,"min_age":151}', "min_age"),
        (Item, '{"item_id":"i","published_ts":1700000000000,"tags":"red"}', "tags"),
        (Item, '{"item_id":"i","published_ts":1700000000000,"tags":[1]}', "tags"),
        (
            Item,
            '{"item_id":"i","published_ts":1700000000000,"duration_ms":99999999999999999999999}',
            "duration_ms",
        ),
        (Item, '{"item_id":"i"}', "published_ts"),
        (RecRequest, '{"request_id":"r","user_id":"u","surface":"home","n":0}', "n"),
        (RecRequest, '{"request_id":"r","user_id":"u","surface":"home","n":1000000000}', "n"),
        (RecRequest, '{"request_id":"r","user_id":"u","surface":"home","exclude":[""]}', "exclude"),
        (RecRequest, '{"request_id":"r","user_id":"u","surface":"home","deadline_ms":0}', "deadline_ms"),
    ],
)
def test_ranges(type_: Any, text: str, field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(text, type=type_)


def test_a_reply_leaves_out_what_it_does_not_say() -> None:
    error = RecReply("r", error=ErrorInfo("invalid_field", "n must be <= 500", "n"))
    assert msgspec.json.decode(msgspec.json.encode(error)) == {
        "request_id": "r",
        "error": {"code": "invalid_field", "message": "n must be <= 500", "field": "n"},
    }
    item = RecItem("i", 0.5, {"click": 0.5}, ["new"], False, 0.25)
    assert msgspec.json.decode(msgspec.json.encode(RecReply("r", [item])))["items"] == [
        {
            "item_id": "i",
            "score": 0.5,
            "objectives": {"click": 0.5},
            "sources": ["new"],
            "explored": False,
            "propensity": 0.25,
        }
    ]


@given(st.binary(max_size=64))
def test_feature_bytes_survive_the_log(features: bytes) -> None:
    impression = Impression(
        "r", "u", "home", T, "", "", "", "", "", ["i"], [0.1], [True], [1.5], features, [["new"]]
    )
    assert msgspec.json.decode(msgspec.json.encode(impression), type=Impression) == impression
    example = Example(
        "r", "u", "i", "home", 0, T, "", "", "", "", 0.1, True, 1.5, True, 0, False, False, features
    )
    assert msgspec.json.decode(msgspec.json.encode(example), type=Example) == example


def test_columns_of_events() -> None:
    c = event_columns(
        [
            event(type="dwell", dwell_ms=1500, user_id="a", context=Context(country="BR")),
            event(type="hide", item_id="j", ts=T + 1, scope="creator"),
        ],
        [7, 9],
    )
    assert len(c) == 2
    assert c.user.tolist() == [hash64("a"), hash64("u")]
    assert c.item.tolist() == [hash64("i"), hash64("j")]
    assert c.kind.tolist() == [KIND["dwell"], KIND["hide"]]
    assert c.dwell_s.tolist() == [2, 0]
    assert c.country.tolist() == [hash64("BR"), 0]
    assert c.ts.tolist() == [T, T + 1]
    assert c.offset.tolist() == [7, 9]
    assert c.of_creator.tolist() == [False, True]
    assert c.where(np.array([False, True])).offset.tolist() == [9]
    assert len(event_columns([], [])) == 0
    rounded = [event(type="dwell", dwell_ms=ms) for ms in (0, 499, 500, 1499, 86_400_000)]
    assert event_columns(rounded, range(5)).dwell_s.tolist() == [0, 0, 1, 1, 86_400]


def test_the_kinds_are_numbered_for_good() -> None:
    # The number is in `item-events` records and logs.
    assert KINDS == ("shown", "click", "skip", "dwell", "like", "save", "follow", "hide", "pair")
    assert ITEM_EVENT.itemsize == 64
