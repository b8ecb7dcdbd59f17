"""The oracle against brute force, and its verdicts against those of the live decoder."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import T0, record

from headrace.agents.follow_catalog import check_item
from headrace.oracle import features as oracle
from headrace.oracle import records as oracle_records
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, Item, check_event
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS

LATENESS, FUTURE, MAX_BYTES = HOUR_MS, 5 * MINUTE_MS, 2000

# --- verdicts ---

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
    return str(read(oracle_records.raw_records("t", 0, [r]))["verdict"][0])


def read_events(raw: pl.DataFrame) -> pl.DataFrame:
    return oracle_records.read_events(raw, max_bytes=MAX_BYTES, lateness_ms=LATENESS, future_ms=FUTURE)


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
        row = read_events(oracle_records.raw_records("t", 0, [r])).row(0, named=True)
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
    told = oracle_verdict(lambda raw: oracle_records.read_items(raw, max_bytes=MAX_BYTES), r)
    assert bool(told) == bool(live_verdict(Decoder(Item, MAX_BYTES, check_item), r))


@given(bodies(SHOWN))
@example(b'{"user_id":"","user_id":"u","ts":1,"country":"","item_ids":[]}')
@example(b'{"user_id":"u","ts":1,"country":"","item_ids":[""]}')
@example(b'{"user_id":"u","ts":1,"country":"","item_ids":["' + b"x" * 65 + b'"]}')
@settings(max_examples=80)
def test_impressions_are_judged_as_the_live_decoder_judges_them(body: bytes) -> None:
    from headrace.agents.partitions.users import Shown

    r = record(body)
    told = oracle_verdict(lambda raw: oracle_records.read_shown(raw, max_bytes=MAX_BYTES), r)
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
    assert read_events(oracle_records.raw_records("t", 0, r))["dwell_s"].to_list() == [seconds, 0]


def test_a_withdrawn_item_and_a_forgotten_user() -> None:
    raw = oracle_records.raw_records(
        "t",
        0,
        [record(None, key=b"a"), record(None, key=b""), record(None, key=None), record(b"{}", key=b"b")],
    )
    items = oracle_records.read_items(raw, max_bytes=MAX_BYTES)
    assert items["verdict"].to_list() == ["", "empty", "empty", "missing_field"]
    assert items.row(0)[-3:] == (hash64("a"), None, None)
    assert oracle_records.read_forgotten(raw)["user_id"].to_list() == ["a"]


# --- duplicates ---

#: Records of two partitions: event id, timestamp, whether it is valid.
streams = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.integers(0, 40), st.booleans()), max_size=40
)


def some_events(rows: Sequence[tuple[int, str, int, bool]]) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "partition": [r[0] for r in rows],
            "offset": range(len(rows)),
            "event_id": [r[1] if r[3] else None for r in rows],
            "timestamp": [r[2] for r in rows],
            "verdict": ["" if r[3] else "undecodable" for r in rows],
        },
        {
            name: oracle_records.EVENTS[name]
            for name in ("partition", "offset", "event_id", "timestamp", "verdict")
        },
    )
    return frame.sample(fraction=1, shuffle=True, seed=1)


@given(streams, st.sampled_from([0, 1, 10, 100]))
def test_duplicates_are_told_by_the_stream_time_of_the_one_before(
    rows: list[tuple[int, str, int, bool]], window: int
) -> None:
    newest: dict[int, int] = {}
    seen: dict[tuple[int, str], int] = {}
    expected = []
    for partition, event_id, timestamp, valid in rows:
        s = newest[partition] = max(newest.get(partition, -1), timestamp)
        verdict = "" if valid else "undecodable"
        if valid:
            before = seen.get((partition, event_id))
            if window and before is not None and before >= s - window:
                verdict = "duplicate"
            seen[partition, event_id] = s
        expected.append(verdict)
    judged = oracle.judge(some_events(rows), window).sort("offset")
    assert judged["verdict"].to_list() == expected


def test_a_retry_counts_again_from_the_retry_before_it() -> None:
    """a . . . a . . . a   window 5: the third is 8 after the first, but 4 after the second."""
    judged = oracle.judge(some_events([(0, "a", 0, True), (0, "a", 4, True), (0, "a", 8, True)]), 5)
    assert judged["verdict"].to_list() == ["", "duplicate", "duplicate"]


# --- features ---

KINDS = ("click", "skip", "dwell", "like", "save", "follow", "hide")
DID = st.tuples(
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(KINDS),
    st.one_of(st.integers(0, 20 * MINUTE_MS), st.integers(0, 9 * DAY_MS)).map(lambda n: T0 + n),
    st.sampled_from([0, 1, 30, 40_000]),
    st.integers(0, 2),
)
SAW = st.tuples(
    st.integers(1, 3),
    st.lists(st.integers(1, 4), max_size=4),
    st.integers(0, 9 * DAY_MS).map(lambda n: T0 + n),
    st.integers(0, 2),
)


def event_frame(rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (
                0,
                i,
                T0 + 10 * DAY_MS,
                "",
                f"e{i}",
                u,
                f"user-{u}",
                item,
                f"item-{item}",
                kind,
                ts,
                s,
                c,
                f"c{c}",
            )
            for i, (u, item, kind, ts, s, c) in enumerate(rows)
        ],
        oracle_records.EVENTS,
        orient="row",
    )


def shown_frame(rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (0, i, ts, "", u, f"user-{u}", ts, c, f"c{c}", items, [f"item-{k}" for k in items])
            for i, (u, items, ts, c) in enumerate(rows)
        ],
        oracle_records.SHOWN,
        orient="row",
    )


WIDTH = {"5m": (MINUTE_MS, 5), "30m": (5 * MINUTE_MS, 6), "1h": (5 * MINUTE_MS, 12), "24h": (HOUR_MS, 24),
         "7d": (DAY_MS, 7)}  # fmt: skip


class Brute:
    """One list of (metric, ts, amount) for each row, and every feature by a loop over it."""

    def __init__(self) -> None:
        self.acts: dict[Any, list[tuple[str, int, int]]] = defaultdict(list)

    def window(self, row: Any, name: str, metric: str, at: int, cell: int) -> int:
        width, n = WIDTH[name]
        buckets = [0] * n
        for m, ts, amount in self.acts[row]:
            back = at // width - ts // width
            if m == metric and 0 <= back < n:
                buckets[back] += amount
        return sum(min(b, cell) for b in buckets)


@given(
    st.lists(DID, max_size=40), st.lists(SAW, max_size=10), st.integers(0, 10 * DAY_MS).map(lambda n: T0 + n)
)
def test_features_of_users_are_those_of_brute_force(did: Any, saw: Any, at: int) -> None:
    brute = Brute()
    for user, _, kind, ts, seconds, _ in did:
        brute.acts[user].append((kind, ts, 1))
        if kind == "dwell":
            brute.acts[user].append(("dwell_s", ts, seconds))
    for user, items, ts, _ in saw:
        brute.acts[user].append(("shown", ts, len(items)))
    known = oracle.users(event_frame(did), shown_frame(saw))
    assert known.keys["user"].to_list() == sorted(brute.acts)
    windows, totals, decayed = known.windows(at), known.totals(), known.decayed(at)
    newest, n_clicks, recent = known.newest(), known.n_clicks(), known.recent_ts()
    for row, user in enumerate(known.keys["user"]):
        acts = brute.acts[user]
        for j, metric in enumerate(oracle.USER_METRICS):
            mine = [(ts, amount) for m, ts, amount in acts if m == metric]
            assert totals[row, j] == sum(a for _, a in mine)
            assert decayed[row, j] == pytest.approx(
                sum(a * 2 ** ((ts - at) / (30 * DAY_MS)) for ts, a in mine)
            )
            for w, name in enumerate(oracle.WINDOWS):
                assert windows[row, w, j] == brute.window(user, name, metric, at, 65_535)
        clicks = sorted((ts for u, _, kind, ts, _, _ in did if u == user and kind == "click"), reverse=True)
        assert newest[row] == max(ts for _, ts, _ in acts)
        assert n_clicks[row] == len(clicks)
        assert recent[row].tolist() == (clicks + [-1] * 20)[:20]


@given(
    st.lists(DID, max_size=40), st.lists(SAW, max_size=10), st.integers(0, 10 * DAY_MS).map(lambda n: T0 + n)
)
def test_features_of_items_are_those_of_brute_force(did: Any, saw: Any, at: int) -> None:
    everywhere, there = Brute(), Brute()
    clicks: dict[Any, list[int]] = defaultdict(list)
    counted = [(item, c, kind, ts, s) for _, item, kind, ts, s, c in did if kind not in ("follow", "hide")]
    counted += [(item, c, "shown", ts, 1) for _, items, ts, c in saw for item in items]
    for item, country, kind, ts, seconds in counted:
        metric = {"dwell": "dwell_s", "save": "like"}.get(kind, kind)
        act = (metric, ts, seconds if kind == "dwell" else 1)
        everywhere.acts[item, 0].append(act)
        if country:
            there.acts[item, country].append(act)
        for key in {(item, 0), (item, country)} if kind == "click" else ():
            clicks[key].append(ts)
    for known, brute in zip(
        oracle.items(event_frame(did), shown_frame(saw)), (everywhere, there), strict=True
    ):
        assert known.keys.select("item", "country").rows() == sorted(brute.acts)
        windows, totals = known.windows(at), known.totals()
        first, last = known.first_ts(), known.last_click()
        for row, key in enumerate(known.keys.select("item", "country").rows()):
            assert first[row] == min(ts for _, ts, _ in brute.acts[key])
            assert last[row] == max(clicks[key], default=0)
            for j, metric in enumerate(oracle.ITEM_METRICS):
                assert totals[row, j] == sum(a for m, _, a in brute.acts[key] if m == metric)
                for w, name in enumerate(oracle.WINDOWS):
                    assert windows[row, w, j] == brute.window(key, name, metric, at, 2**32)
        parts = [known.of_partition(n, 3) for n in range(3)]
        assert sum(p.shape[0] for p in parts) == known.shape[0]
        for n, part in enumerate(parts):
            mine = known.keys["item"].to_numpy() % 3 == n
            assert np.array_equal(part.windows(at), windows[mine])
            assert np.array_equal(part.totals(), totals[mine])


def test_buckets_are_full_at_their_cells_largest_count() -> None:
    long = [(1, 1, "dwell", T0, 40_000, 0)] * 2
    user = oracle.users(event_frame(long), shown_frame([]))
    seconds = oracle.USER_METRICS.index("dwell_s")
    assert user.windows(T0)[0, :, seconds].tolist() == [65_535] * 5
    assert user.totals()[0, seconds] == 80_000
    huge = pl.DataFrame({"row": [0, 0], "metric": [0, 0], "ts": [T0, T0 - DAY_MS], "amount": [2**33, 5]})
    counts = oracle.windows(huge, (1, 1), T0, oracle.ITEM_CELLS)
    assert counts[0, :, 0].tolist() == [2**24 - 1] * 3 + [2**24 - 1, 2**32 + 4]


def test_forgotten_users_are_left_out_and_keep_nobody_else_from_counting() -> None:
    did = [(1, 1, "click", T0, 0, 0), (2, 1, "click", T0, 0, 0)]
    gone = pl.DataFrame({"user": [1]}, {"user": pl.UInt64})
    known = oracle.users(event_frame(did), shown_frame([]), gone)
    assert known.keys["user"].to_list() == [2]


# --- affinities ---


def item_frame(rows: Sequence[tuple[int, int | None, int | None, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(0, i, ts, "", item, cat, creator) for i, (item, cat, creator, ts) in enumerate(rows)],
        oracle_records.ITEMS,
        orient="row",
    )


def test_affinities_fade_and_add_up() -> None:
    """A click 30 days before the time asked is worth half a click; a skip takes a fifth of one away."""
    at = T0 + 30 * DAY_MS
    did = [
        (1, 1, "click", T0, 0, 0),
        (1, 1, "skip", at, 0, 0),
        (1, 2, "dwell", at, 45, 0),
        (1, 3, "click", at, 0, 0),
    ]
    items = oracle.attributes(item_frame([(1, 7, 70, T0), (2, 8, 0, T0)]))
    known = oracle.users(event_frame(did), shown_frame([]))
    cats, sure = known.affinities(items, "category", at)
    assert sure.tolist() == [True]
    assert dict(cats.select("key", "weight").iter_rows()) == pytest.approx({7: 0.3, 8: 1.5})
    creators, _ = known.affinities(items, "creator", at)
    assert dict(creators.select("key", "weight").iter_rows()) == pytest.approx({70: 0.3})


@pytest.mark.parametrize(
    ("records", "complete", "sure"),
    [
        ([(1, 7, 7, T0)], True, True),
        ([(1, 7, 7, T0), (1, 7, 7, T0 + 5)], True, True),
        ([(1, 7, 7, T0), (1, 8, 7, T0 + 5)], True, False),
        ([(1, 7, 7, T0), (1, 7, 8, T0 + 5)], True, False),
        ([(1, 7, 7, T0), (1, None, None, T0 + 5)], True, False),
        ([(1, 7, 7, T0)], False, False),
        ([], True, True),
        ([], False, False),
        ([(2, 7, 7, T0), (2, 8, 8, T0)], True, True),
        ([(1, 7, 7, T0 + 10 * DAY_MS - 5000)], True, False),
    ],
)
def test_affinities_are_told_only_where_attributes_never_changed(
    records: Any, complete: bool, sure: bool
) -> None:
    """The event's record is written at T0 + 10 days; the item must have been there a while before."""
    known = oracle.users(event_frame([(1, 1, "click", T0 + 10 * DAY_MS, 0, 0)]), shown_frame([]))
    items = oracle.attributes(item_frame(records))
    for what in ("category", "creator"):
        assert known.affinities(items, what, T0, complete=complete)[1].tolist() == [sure]


def test_more_categories_than_a_row_holds_are_not_compared() -> None:
    for n, sure in ((12, True), (13, False)):
        did = [(1, i, "click", T0, 0, 0) for i in range(1, n + 1)]
        known = oracle.users(event_frame(did), shown_frame([]))
        items = oracle.attributes(item_frame([(i, i, i, T0) for i in range(1, n + 1)]))
        assert known.affinities(items, "category", T0)[1].tolist() == [sure]


def test_window_starts() -> None:
    at = T0 // DAY_MS * DAY_MS + 90 * MINUTE_MS + 7
    day = at // DAY_MS * DAY_MS
    starts = oracle.window_starts(at).tolist()
    assert starts == [
        day + 86 * MINUTE_MS,
        day + 65 * MINUTE_MS,
        day + 35 * MINUTE_MS,
        day - 22 * HOUR_MS,
        day - 6 * DAY_MS,
    ]
