from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, record

from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import (
    Event,
    Example,
    Impression,
    Item,
    RecRequest,
    UserProfile,
    check_event,
    check_request,
)

GOOD = {"event_id": "e1", "type": "click", "user_id": "u", "item_id": "i", "ts": T0}
MAX = 10_000


def event_decoder() -> Decoder[Event]:
    return Decoder(Event, MAX, lambda e, r: check_event(e, r.timestamp, 3_600_000, 300_000))


def body(**changes: Any) -> bytes:
    fields = {**GOOD, **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not ...}).encode()


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([*GOOD, "dwell_ms", "context", "position", "surface", "request_id", "nonsense"])
bad_bodies = st.one_of(
    st.none(),
    st.binary(max_size=200),
    json_values.map(lambda v: json.dumps(v).encode()),  # NaN and Infinity as Python writes them
    st.tuples(names, json_values).map(lambda p: body(**{p[0]: p[1]})),
    st.integers(1, 5000).map(lambda n: b"[" * n),
    st.integers(1, 4900).map(lambda n: b'{"x":' + b"[" * n + b"]" * n + b"}"),
    st.integers(0, 60).map(lambda n: body()[:-n]),
    st.just(b"x" * (MAX + 1)),
)


@given(st.lists(st.tuples(st.booleans(), bad_bodies), max_size=25))
def test_nothing_is_lost_and_nothing_raises(story: list[tuple[bool, bytes | None]]) -> None:
    records = [
        record(body(event_id=f"good-{n}") if good else bad, offset=n) for n, (good, bad) in enumerate(story)
    ]
    out = event_decoder().batch(records)
    assert len(out.values) == len(out.records)
    assert all(isinstance(v, Event) for v in out.values)
    taken, refused = [r.offset for r in out.records], [r.offset for r, _ in out.rejects]
    assert sorted(taken + refused) == list(range(len(records))), "a record vanished, or was met twice"
    assert taken == sorted(taken), "the order of the good ones changed"
    assert refused == sorted(refused), "the order of the bad ones changed"
    assert {n for n, (good, _) in enumerate(story) if good} <= set(taken), "a good record was refused"
    for value, rec in zip(out.values, out.records, strict=True):
        if value.event_id.startswith("good-"):
            assert value.event_id == f"good-{rec.offset}", "values and records are out of step"
    for _, error in out.rejects:
        assert isinstance(error, RejectedError)
        assert error.reason
        assert error.detail


@given(bad_bodies)
@pytest.mark.parametrize("type_", [Item, UserProfile, RecRequest, Impression, Example])
def test_every_message_survives_every_body(type_: type[Any], value: bytes | None) -> None:
    out = Decoder(type_, MAX).batch([record(value)])
    assert len(out.values) + len(out.rejects) == 1


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        (None, "empty", ""),
        (b"", "undecodable", ""),
        (b"\xff\xfe", "undecodable", ""),
        (body()[:-1], "undecodable", ""),
        (body() + b"{}", "undecodable", ""),
        (b"[]", "invalid_field", ""),
        (b"null", "invalid_field", ""),
        (b"3", "invalid_field", ""),
        (b'"\\ud800"', "invalid_field", ""),
        (b'{"event_id":"\xff"}', "undecodable", ""),
        (b'{"x":' + b"[" * 4000 + b"]" * 4000 + b"}", "undecodable", ""),
        (body(ts=float("nan")), "undecodable", ""),
        (b"[" + b" " * MAX + b"]", "too_large", ""),
        (body(ts=...), "missing_field", "ts"),
        (body(user_id=...), "missing_field", "user_id"),
        (body(user_id=""), "invalid_field", "user_id"),
        (body(user_id="u" * 65), "invalid_field", "user_id"),
        (body(user_id=None), "invalid_field", "user_id"),
        (body(user_id=7), "invalid_field", "user_id"),
        (body(ts="now"), "invalid_field", "ts"),
        (body(ts=-1), "out_of_range", "ts"),
        (body(ts=10**30), "out_of_range", "ts"),
        (body(ts=1.5), "invalid_field", "ts"),
        (body(ts=True), "invalid_field", "ts"),
        (body(type="buy"), "invalid_field", "type"),
        (body(position=-1), "invalid_field", "position"),
        (body(surface="moon"), "invalid_field", "surface"),
        (body(context=[]), "invalid_field", "context"),
        (body(context={"country": 7}), "invalid_field", "context.country"),
        (body(type="dwell"), "missing_field", "dwell_ms"),
        (body(type="dwell", dwell_ms=86_400_001), "invalid_field", "dwell_ms"),
        (body(ts=T0 - 3_600_001), "too_late", "ts"),
        (body(ts=T0 + 300_001), "from_the_future", "ts"),
    ],
)
def test_reasons_name_the_field(value: bytes | None, reason: str, field: str) -> None:
    good = record(body(event_id="good"))
    out = event_decoder().batch([good, record(value), good])
    assert [v.event_id for v in out.values] == ["good", "good"]
    ((_, error),) = out.rejects
    if value == b'"\\ud800"':
        assert error.reason in {"undecodable", "invalid_field"}
    else:
        assert (error.reason, error.field) == (reason, field)


def test_late_and_early_within_bounds_is_fine() -> None:
    out = event_decoder().batch(
        [
            record(body(ts=T0 - 3_600_000)),
            record(body(ts=T0 + 300_000)),
            record(body(type="dwell", dwell_ms=0)),
        ]
    )
    assert not out.rejects


def test_unknown_fields_are_ignored_and_of_two_the_last_counts() -> None:
    value = body(colour="red")[:-1] + b', "user_id": "second"}'
    (event,) = event_decoder().batch([record(value)]).values
    assert event.user_id == "second"


def test_two_records_cannot_pass_as_others_together() -> None:
    # What joining the bodies into one array would allow.
    out = event_decoder().batch([record(body()[:-1]), record(b"}," + body())])
    assert len(out.rejects) == 2


def test_defaults_are_not_shared() -> None:
    item = {"item_id": "i", "published_ts": T0}
    a, b = Decoder(Item, MAX).batch([record(json.dumps(item).encode())] * 2).values
    a.tags.append("x")
    assert b.tags == []


def test_an_empty_batch() -> None:
    assert event_decoder().batch([]) == event_decoder().batch(())


@given(st.integers() | st.none())
def test_the_number_of_slots(n: int | None) -> None:
    value = json.dumps({"request_id": "r", "user_id": "u", "surface": "home", "n": n}).encode()
    out = Decoder(RecRequest, MAX, lambda q, _: check_request(q)).batch([record(value)])
    if n is None:
        assert out.values[0].n == 20, "null is absent"
    elif 1 <= n <= 500:
        assert out.values[0].n == n
    else:
        assert out.rejects[0][1].field == "n"


def test_related_needs_an_item() -> None:
    request = {"request_id": "r", "user_id": "u", "surface": "related"}
    decoder = Decoder(RecRequest, MAX, lambda q, _: check_request(q))
    ((_, error),) = decoder.batch([record(json.dumps(request).encode())]).rejects
    assert (error.reason, error.field) == ("missing_field", "item_id")
    assert decoder.batch([record(json.dumps({**request, "item_id": "i"}).encode())]).values


def test_the_check_is_asked_once_per_record_on_every_path() -> None:
    asked: list[int] = []
    decoder = Decoder(Event, MAX, lambda _, r: asked.append(r.offset))
    decoder.batch([record(body(), offset=n) for n in range(3)])
    assert asked == [0, 1, 2]
    asked.clear()
    decoder.batch([record(b"{" if n == 1 else body(), offset=n) for n in range(3)])
    assert asked == [0, 2]


def test_bodies_may_be_any_bytes_like() -> None:
    assert event_decoder().batch([record(bytearray(body()))]).values  # type: ignore[arg-type]


def test_what_we_write_we_can_read() -> None:
    event = msgspec.json.decode(body(), type=Event)
    assert event_decoder().batch([record(msgspec.json.encode(event))]).values == [event]
