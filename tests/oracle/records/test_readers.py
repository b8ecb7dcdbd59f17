"""The oracle's verdicts, compared with those of the live decoder."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import T0, record

from headrace.agents.stage.item_records import check_item
from headrace.oracle.records import readers
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.profiles import read_users
from headrace.oracle.records.readers import read_items
from headrace.oracle.records.shown import read_shown
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, Item, check_event
from headrace.streams.settings import HOUR_MS, MINUTE_MS

LATENESS, FUTURE, MAX_BYTES = HOUR_MS, 5 * MINUTE_MS, 2000


#: Numbers, texts and other things as they may stand in JSON, sound and not.
numbers = st.one_of(
    st.integers(-2, 12).map(str),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(
        ["0", "-0", "00", "01", "-01", "1.0", "1e0", "1E3", "-0.0", ".5", "5.", "1e", "1e400", "-1e400",
         "1e-400", "+1", "NaN", "Infinity", "-Infinity", "10000", "10001", "150", "151", "100", "100.0",
         "100.00001", "86400000", "86400001", "4102444800000", "4102444800001", "18446744073709551616",
         "0x1", "1_0", "\u0661"]
    ),
    st.just("9" * 5000),
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda s: json.dumps(s, ensure_ascii=False)),
    st.builds(lambda c, n: f'"{c * n}"', st.sampled_from("xé😀"), st.integers(60, 130)),
    st.sampled_from(
        [
            r'"\ud800"', r'"\udc00"', r'"\ud83d\ude00"', r'"\ud83d\ud83d"', r'"\ud83dx\ude00"',
            r'"\\ud800"', r'"\\\ud800"', r'"\u0000"', r'"\x"', r'"\u12g4"', r'"\u00e9"', '"\t"', '"\x7f"',
            '"a', "'a'", r'"\/"', '"click"', r'"cl\u0069ck"', '"dwell"', '"home"', '"purchase"', '""',
        ]
    ),
)  # fmt: skip
others = st.sampled_from(
    ["null", "true", "nul", "[]", "{}", "[1,]", '{"a":1,}', '{"a"}', "[[]]", '{"country":"BR"}',
     '{"age":34}', '{"age":151}', '{"age":-1}', '{"age":"9"}', '{"age":null}',
     '{"country":null}', '{"country":"BR","country":7}', '{"ts":-1,"x":[{}]}',
     '{"device":"tv","country":"NL"}', '["a","b"]', '["a",1]', "", "/**/1", "[" * 50 + "]" * 50]
)  # fmt: skip
values = st.one_of(numbers, texts, others)
blanks = st.sampled_from(["", " ", "\n", "\t\r", "\f", "\x00", "\xa0", "\ufeff"])


def sound(**fields: Any) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in fields.items()}


EVENT = sound(
    event_id="e", type="dwell", user_id="u", item_id="i", ts=T0, dwell_ms=1, position=0, surface="home"
)
ITEM = sound(item_id="u", published_ts=T0, category="c", creator_id="m", boost=1, tags=["a"], min_age=0)
SHOWN = sound(user_id="u", ts=T0, country="BR", item_ids=["i", "j"])
EXTRA = [
    "context",
    "request_id",
    "x",
    "device",
    "title",
    "countries",
    "flags",
    "duration_ms",
    "vector",
    "language",
    "é",
]


@st.composite
def bodies(draw: st.DrawFn, fields: dict[str, str]) -> bytes:
    """Draw a sound body with some fields changed, doubled, missing, and now and then with bytes changed."""
    pairs = list(fields.items())
    names = st.sampled_from([*fields, *EXTRA])
    for name, value in draw(st.lists(st.tuples(names, values), max_size=2)):
        at = draw(st.integers(0, len(pairs)))
        pairs[at : at + draw(st.integers(0, 1))] = [(name, value)]
    spelled = draw(
        st.sampled_from([json.dumps, lambda n: '"' + "".join(f"\\u{ord(c):04x}" for c in n) + '"'])
    )
    gap = draw(blanks) if draw(st.booleans()) else ""
    inner = ",".join(f"{gap}{spelled(name)}{gap}:{value}" for name, value in pairs)
    body = f"{gap}{{{inner}}}{gap}".encode()
    for at, byte, drop in draw(
        st.lists(st.tuples(st.integers(0, len(body)), st.binary(max_size=2), st.integers(0, 2)), max_size=1)
    ):
        body = body[:at] + byte + body[at + drop :]
    return body


def live_verdict(decoder: Decoder[Any], r: Any) -> str:
    try:
        decoder.one(r)
    except RejectedError as exc:
        return exc.reason
    return ""


def oracle_verdict(read: Any, r: Any) -> str:
    return str(read(raw_records("t", 0, [r]))["verdict"][0])


def read_events(raw: pl.DataFrame) -> pl.DataFrame:
    return readers.read_events(raw, max_bytes=MAX_BYTES, lateness_ms=LATENESS, future_ms=FUTURE)


def check_live_event(event: Event, r: Any) -> None:
    check_key(r, "user_id", event.user_id)
    check_event(event, r.timestamp, LATENESS, FUTURE)


def live_events() -> Decoder[Event]:
    return Decoder(Event, MAX_BYTES, check_live_event)


@given(
    bodies(EVENT) | st.binary(max_size=30) | st.none(),
    st.sampled_from([b"u"] * 8 + [b"", b"v", None]),
    st.sampled_from([0] * 5 + [LATENESS, LATENESS + 1, -FUTURE, -FUTURE - 1]),
)
@settings(max_examples=150)
def test_events_are_judged_as_the_live_decoder_judges_them(
    body: bytes | None, key: bytes | None, late: int
) -> None:
    r = record(body, key=key, timestamp=T0 + late)
    live = live_verdict(live_events(), r)
    told = oracle_verdict(read_events, r)
    assert bool(told) == bool(live), (live, told)
    if not live:
        event = live_events().one(r)
        row = read_events(raw_records("t", 0, [r])).row(0, named=True)
        assert (row["event_id"], row["user_id"], row["item_id"]) == (
            event.event_id,
            event.user_id,
            event.item_id,
        )
        assert (row["kind"], row["ts"], row["country_id"]) == (event.type, event.ts, event.context.country)
        ids = (event.user_id, event.item_id, event.context.country)
        assert (row["user"], row["item"], row["country"]) == tuple(map(hash64, ids))


@given(bodies(ITEM), st.sampled_from([b"u", b"u", b"v"]))
@settings(max_examples=80)
def test_items_are_judged_as_the_live_decoder_judges_them(body: bytes, key: bytes) -> None:
    r = record(body, key=key)
    told = oracle_verdict(lambda raw: read_items(raw, max_bytes=MAX_BYTES), r)
    assert bool(told) == bool(live_verdict(Decoder(Item, MAX_BYTES, check_item), r))


@given(bodies(SHOWN))
@example(b'{"user_id":"","user_id":"u","ts":1,"country":"","item_ids":[]}')
@example(b'{"user_id":"u","ts":1,"country":"","item_ids":[""]}')
@example(b'{"user_id":"u","ts":1,"country":"","item_ids":["' + b"x" * 65 + b'"]}')
@settings(max_examples=80)
def test_impressions_are_judged_as_the_live_decoder_judges_them(body: bytes) -> None:
    from headrace.agents.partitions.users import Shown

    r = record(body)
    told = oracle_verdict(lambda raw: read_shown(raw, max_bytes=MAX_BYTES), r)
    assert bool(told) == bool(live_verdict(Decoder(Shown, MAX_BYTES), r))


def body(**changes: Any) -> bytes:
    return json.dumps(
        {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": T0, **changes}
    ).encode()


@pytest.mark.parametrize(
    ("value", "key", "late", "verdict"),
    [
        (body(), b"u", 0, ""),
        (body(), b"u", LATENESS, ""),
        (body(), b"u", LATENESS + 1, "too_late"),
        (body(), b"u", -FUTURE, ""),
        (body(), b"u", -FUTURE - 1, "from_the_future"),
        (body(), b"v", 0, "wrong_key"),
        (body(), None, 0, "wrong_key"),
        (None, b"u", 0, "empty"),
        (body(x="x" * MAX_BYTES), b"u", 0, "too_large"),
        (body(type="dwell"), b"u", 0, "missing_field"),
        (body(type="buy"), b"u", 0, "invalid_field"),
        (body(ts=T0 + 0.5), b"u", 0, "invalid_field"),
        (b'{"event_id": "e"}', b"u", 0, "missing_field"),
        (b"\xff", b"u", 0, "undecodable"),
        (b"[" * 100_000, b"u", 0, "too_large"),
        (b"[" * 1500, b"u", 0, "undecodable"),
        (b"[]", b"u", 0, "invalid_field"),
    ],
)
def test_verdicts(value: bytes | None, key: bytes | None, late: int, verdict: str) -> None:
    assert oracle_verdict(read_events, record(value, key=key, timestamp=T0 + late)) == verdict


@pytest.mark.parametrize(
    ("ms", "seconds"), [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (86_400_000, 86_400)]
)
def test_dwell_is_whole_seconds_and_of_dwell_events_only(ms: int, seconds: int) -> None:
    r = [record(body(type=kind, dwell_ms=ms), key=b"u") for kind in ("dwell", "click")]
    assert read_events(raw_records("t", 0, r))["dwell_s"].to_list() == [seconds, 0]


def test_a_withdrawn_item_and_a_forgotten_user() -> None:
    raw = raw_records(
        "t",
        0,
        [record(None, key=b"a"), record(None, key=b""), record(None, key=None), record(b"{}", key=b"b")],
    )
    items = read_items(raw, max_bytes=MAX_BYTES)
    assert items["verdict"].to_list() == ["", "empty", "empty", "missing_field"]
    assert items.row(0)[-6:] == (hash64("a"), None, None, "a", None, False)
    users = read_users(raw, max_bytes=MAX_BYTES)
    assert users["verdict"].to_list() == ["", "empty", "empty", "missing_field"]
    assert users.row(0, named=True) | {"gone": True, "user_id": "a"} == users.row(0, named=True)
