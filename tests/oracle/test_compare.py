"""`headrace verify`: oracle and live code agree on any history, and what was tampered with is found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from strategies import T0, record

import agents
from headrace.console import main as cli
from headrace.console.verification import page as verify_page
from headrace.console.verification.run import VerifyResult, times_to_ask
from headrace.console.verification.topics import Latest, covered_from
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.users import UserState, item_events
from headrace.oracle import features as oracle
from headrace.oracle import records as oracle_records
from headrace.oracle.compare import compare_items, compare_users
from headrace.oracle.findings import Findings, align, check
from headrace.streams.dedup import NO_TIME, DedupWindow, stream_times
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.columns import ITEM_EVENT, KIND, event_columns
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, check_event
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from headrace.streams.tables.rows import RowTable

LATENESS, FUTURE, DEDUP = HOUR_MS, 5 * MINUTE_MS, 10 * MINUTE_MS
CATEGORY = {f"item-{i}": f"category-{i % 3}" if i % 4 else "" for i in range(8)}

encode = msgspec.json.encode


def check_live(event: Event, r: Any) -> None:
    check_key(r, "user_id", event.user_id)
    check_event(event, r.timestamp, LATENESS, FUTURE)


class Live:
    """One partition of users and all items, fed by batches of raw records with the live code."""

    def __init__(self) -> None:
        self.users = UserState(RowTable(user_state.ROW, user_state.BLANK[()]), 30 * MINUTE_MS)
        self.items = ItemState()
        self._dedup = DedupWindow(DEDUP)
        self._newest = NO_TIME
        self._decoder = Decoder(Event, 5000, check_live)
        self._written = 0

    def events(self, records: Sequence[Any]) -> None:
        decoded = self._decoder.batch(records)
        times = stream_times(np.array([r.timestamp for r in records], np.int64), self._newest)
        self._newest = int(times[-1])
        offsets = np.array([r.offset for r in decoded.records], np.int64)
        times = times[np.searchsorted([r.offset for r in records], offsets)]
        fresh = self._dedup.fresh(hash_many([e.event_id for e in decoded.values]), times)
        columns = event_columns(decoded.values, offsets.tolist()).where(fresh)
        columns.category = hash_many([CATEGORY[e.item_id] for e in np.array(decoded.values, object)[fresh]])
        columns.creator = columns.category
        self._to_items(item_events(self.users.apply(columns), 0))

    def shown(self, users: Sequence[str], items: Sequence[Sequence[str]], ts: Sequence[int]) -> None:
        slots = np.array([len(i) for i in items], np.int64)
        at, offsets = np.array(ts, np.int64), np.arange(len(users))
        self.users.shown(hash_many(users), slots, at, offsets)
        out = np.zeros(int(slots.sum()), ITEM_EVENT)
        out["item"] = hash_many([i for shown in items for i in shown])
        out["country"], out["amount"], out["kind"] = hash64("BR"), 1, KIND["shown"]
        out["ts"] = np.repeat(at, slots)
        self._to_items(out)

    def _to_items(self, out: np.ndarray[Any, Any]) -> None:
        out = out[out["kind"] != KIND["pair"]]
        offsets = np.full(len(out), self._written, np.int64)
        self._written += 1
        self.items.apply(out, offsets)

    def user_rows(self) -> np.ndarray[Any, Any]:
        return rows_of(self.users.table)

    def item_rows(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return rows_of(self.items.table), rows_of(self.items.countries)


def rows_of(table: RowTable) -> np.ndarray[Any, Any]:
    return table.data[table.rows()].copy()


class Known:
    """The same raw records as the oracle sees them."""

    def __init__(self, records: Sequence[Any], shown: Sequence[tuple[str, list[str], int]]) -> None:
        raw = oracle_records.raw_records("events", 0, records)
        self.judged = oracle.judge(
            oracle_records.read_events(raw, max_bytes=5000, lateness_ms=LATENESS, future_ms=FUTURE), DEDUP
        )
        seen = [
            record(encode({"user_id": u, "ts": ts, "country": "BR", "item_ids": items}), offset=i)
            for i, (u, items, ts) in enumerate(shown)
        ]
        self.shown = oracle_records.read_shown(
            oracle_records.raw_records("impressions", 0, seen), max_bytes=5000
        )
        events = oracle.accepted(self.judged)
        self.users = oracle.users(events, self.shown)
        self.items = oracle.items(events, self.shown)
        catalog = [
            record(
                encode({"item_id": i, "published_ts": T0, "category": c, "creator_id": c}),
                key=i.encode(),
                timestamp=T0 - DAY_MS,
            )
            for i, c in CATEGORY.items()
        ]
        self.attributes = oracle.attributes(
            oracle_records.read_items(oracle_records.raw_records("items", 0, catalog), max_bytes=5000)
        )


def compare(known: Known, live: Live, at: Sequence[int]) -> Findings:
    findings = Findings()
    compare_users(findings, known.users, live.user_rows(), known.attributes, at)
    for part, rows, countries in zip(known.items, live.item_rows(), (False, True), strict=True):
        compare_items(findings, part, rows, at, countries=countries)
    return findings


#: What happened: user, kind, item, how long after the one before it was sent, how late it was, dwell,
#: country, which id it has (few: there are duplicates), whether it is garbage.
did = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["click", "click", "click", "skip", "dwell", "like", "save", "follow", "hide"]),
    st.integers(0, 7),
    st.one_of(st.integers(-MINUTE_MS, 5 * MINUTE_MS), st.sampled_from([0, HOUR_MS, DAY_MS])),
    st.one_of(st.integers(-FUTURE - 5000, LATENESS + 5000), st.integers(0, 2000), st.just(LATENESS)),
    st.one_of(st.integers(0, 5000), st.sampled_from([60_000, 86_400_000])),
    st.sampled_from(["", "BR", "NL"]),
    st.integers(0, 30),
    st.sampled_from([False] * 9 + [True]),
)
saw = st.tuples(
    st.integers(0, 3),
    st.lists(st.integers(0, 7), max_size=5),
    st.integers(0, 3 * DAY_MS).map(lambda n: T0 + n),
)


def raw_records(history: Sequence[Any]) -> list[Any]:
    out, clock = [], T0
    for offset, (user, kind, item, step, late, dwell, country, event_id, garbage) in enumerate(history):
        clock += step
        body = encode(
            {
                "event_id": f"e{event_id}" if event_id < 20 else f"unique-{offset}",
                "type": kind,
                "user_id": f"user-{user}",
                "item_id": f"item-{item}",
                "ts": clock - late,
                "dwell_ms": dwell,
                "context": {"country": country},
            }
        )
        out.append(
            record(
                body[:-1] if garbage else body, key=f"user-{user}".encode(), offset=offset, timestamp=clock
            )
        )
    return out


@given(
    st.lists(did, min_size=1, max_size=80),
    st.lists(saw, max_size=8),
    st.lists(st.integers(0, 100), max_size=4),
)
@settings(max_examples=60)
def test_the_live_code_and_the_oracle_agree(history: Any, seen: Any, cuts: list[int]) -> None:
    records = raw_records(history)
    shown = [(f"user-{u}", [f"item-{i}" for i in items], ts) for u, items, ts in seen]
    live, known = Live(), Known(records, shown)
    edges = sorted({0, len(records), *(c % len(records) for c in cuts)})
    for a, b in pairwise(edges):
        live.events(records[a:b])
    if shown:
        live.shown(*zip(*shown, strict=True))
    newest = max(known.users.newest(), default=T0)
    findings = compare(known, live, times_to_ask(int(newest)))
    assert findings.first == []
    assert findings.differences == 0


def some_history() -> tuple[Live, Known]:
    rng = np.random.default_rng(5)
    kinds = ["click", "skip", "dwell", "like", "save", "follow", "hide"]
    history = [
        (user, kinds[kind], item, 20_000, late, dwell, ["", "BR", "NL"][place], 30, False)
        for user, kind, item, late, dwell, place in rng.integers(
            [0, 0, 1, 0, 0, 0], [4, len(kinds), 8, 60_000, 60_000, 3], (300, 6)
        ).tolist()
    ]
    shown = [(f"user-{i % 4}", ["item-1", "item-2"], T0 + i * MINUTE_MS) for i in range(20)]
    records = raw_records(history)
    live, known = Live(), Known(records, shown)
    live.events(records)
    live.shown(*zip(*shown, strict=True))
    return live, known


@pytest.mark.parametrize(
    ("field", "by", "feature"),
    [
        ("w_5m", 1, "5m "),
        ("w_1h", 1, "1h "),
        ("w_24h", 1, "24h "),
        ("w_7d", 1, "7d "),
        ("h_7d", -3, "7d "),
        ("totals", 1, "total "),
        ("decayed", 0.01, "30-day "),
        ("n_clicks", 1, "n_clicks"),
        ("recent", 1, "clicks of item"),
        ("recent_ts", 1, "time of click"),
        ("cat", 1, "taste for category"),
        ("cat_w", 0.01, "taste for category"),
        ("creator_ts", HOUR_MS, "taste for creator"),
    ],
)
def test_one_value_of_a_user_changed_is_found(field: str, by: float, feature: str) -> None:
    live, known = some_history()
    newest = int(max(known.users.newest()))
    assert compare(known, live, [newest]).differences == 0
    values = live.users.table.data[field]
    values[live.users.table.row(hash64("user-2"))] += np.array(by).astype(values.dtype)
    findings = compare(known, live, [newest])
    assert findings.differences > 0
    assert findings.rows == 1
    assert {d.row for d in findings.first} == {"user user-2"}
    assert any(d.feature.startswith(feature) for d in findings.first), findings.first


@pytest.mark.parametrize(
    ("field", "feature"),
    [
        ("x_24h", "24h "),
        ("totals_x", "total "),
        ("first_ts", "first event"),
        ("last_click", "last click"),
        ("w_1h", "1h "),
    ],
)
def test_one_value_of_an_item_changed_is_found(field: str, feature: str) -> None:
    live, known = some_history()
    newest = int(max(known.users.newest()))
    for table, name, key in (
        (live.items.table, "item item-3", hash64("item-3")),
        (live.items.countries, "item item-3 in BR", country("item-3", "BR")),
    ):
        before = table.data.copy()
        table.data[field][table.row(key)] += 1
        findings = compare(known, live, [newest])
        assert {d.row for d in findings.first} == {name}
        assert any(d.feature.startswith(feature) for d in findings.first), findings.first
        table.data[:] = before


def country(item: str, place: str) -> int:
    return int(item_state.country_key(hash_many([item]), hash_many([place]))[0])


def test_a_missing_row_an_extra_row_and_a_misplaced_one_are_found() -> None:
    live, known = some_history()
    newest = int(max(known.users.newest()))
    live.users.table.drop(np.array([hash64("user-1")], np.uint64))
    extra = live.items.table.take(np.array([12345], np.uint64))
    live.items.table.data["totals"][extra, 1] = 7
    misplaced = live.items.countries.row(country("item-3", "BR"))
    live.items.countries.data["country"][misplaced] += 1
    findings = compare(known, live, [newest])
    every = Findings(10_000)
    compare_users(every, known.users, live.user_rows(), known.attributes, [newest])
    assert {d.row for d in every.first} == {"user user-1"}
    assert {d.found for d in every.first if d.feature.startswith("total")} == {0}
    every = Findings(10_000)
    for part, rows, by in zip(known.items, live.item_rows(), (False, True), strict=True):
        compare_items(every, part, rows, [newest], countries=by)
    assert "item 0000000000003039" in {d.row for d in every.first}
    assert "item item-3 in BR" in {d.row for d in every.first}
    assert "key" in {d.feature for d in every.first}
    assert findings.differences > findings.limit == len(findings.first)


def test_windows_before_the_newest_act_are_compared_where_rows_are_exact() -> None:
    """user-0 was last seen an hour before user-1: at that time only user-0's windows are exact."""
    records = raw_records(
        [(0, "click", 1, 0, 0, 0, "", 30, False), (1, "click", 1, HOUR_MS, 0, 0, "", 30, False)]
    )
    known, live = Known(records, []), Live()
    live.events(records)
    for at, rows in ((T0, 1), (T0 + HOUR_MS - 5 * MINUTE_MS, 2), (T0 - 6 * MINUTE_MS, 0)):
        findings = Findings()
        compare_users(findings, known.users, live.user_rows(), known.attributes, [at], covered_from=1)
        assert (findings.compared, findings.differences) == (rows * 5 * 9, 0)


def test_only_windows_that_are_covered_are_compared_when_the_beginning_is_gone() -> None:
    live, known = some_history()
    newest = int(max(known.users.newest()))
    late = Known([], [])
    findings = Findings()
    compare_users(
        findings, late.users, live.user_rows(), known.attributes, [newest + 2 * HOUR_MS], covered_from=newest
    )
    assert (findings.compared, findings.differences) == (4 * 3 * 9, 0), "5m, 30m and 1h begin after `newest`"
    findings = Findings()
    compare_items(
        findings, late.items[0], live.item_rows()[0], [newest], countries=False, covered_from=newest - HOUR_MS
    )
    assert findings.differences > 0


def test_clicks_at_the_same_time_may_stand_in_any_order() -> None:
    """25 clicks at one time: any 20 of them are the last 20."""
    records = raw_records([(0, "click", i % 8, 0, 0, 0, "", 30, False) for i in range(25)])
    known, live = Known(records, []), Live()
    live.events(records)
    assert compare(known, live, [T0]).differences == 0
    data = live.users.table.data
    row = live.users.table.row(hash64("user-0"))
    data["recent"][row] = hash_many([f"item-{i % 8}" for i in range(20)])
    assert compare(known, live, [T0]).differences == 0
    data["recent"][row] = hash64("item-1")
    findings = compare(known, live, [T0])
    assert [(d.feature.split(" at ")[0], d.expected, d.found) for d in findings.first] == [
        (f"clicks of item {hash64('item-1'):016x}", 3, 20)
    ]


# --- reading ---


def packed(key: int, **fields: int) -> bytes:
    table = RowTable(user_state.ROW, user_state.BLANK[()])
    row = table.take(np.array([key], np.uint64))
    for name, value in fields.items():
        table.data[name][row] = value
    return table.pack(row)[0]


def test_the_newest_row_of_a_key_is_the_one_furthest_ahead() -> None:
    latest = Latest(user_state.ROW, ("offset", "shown_offset"))
    one, two = (k.to_bytes(8, "little") for k in (1, 2))
    latest.apply(
        [
            record(packed(1, offset=5, shown_offset=1), key=one),
            record(packed(1, offset=5, shown_offset=0), key=one),  # of a worker that lost the partition
            record(packed(1, offset=4, shown_offset=9), key=one),
            record(packed(1, offset=5, shown_offset=1, age=30), key=one),
            record(packed(2, offset=1), key=two),
            record(None, key=two),
            record(b"12345678", key=b"m:7"),
            record(packed(3), key=one),
            record(b"short", key=two),
            record(packed(2, layout=1), key=two),
            record(b"x", key=None),
        ]
    )
    assert list(latest.rows) == [1]
    assert latest.table()["age"].tolist() == [30]
    assert latest.refused == 3
    assert len(Latest(user_state.ROW, ("offset",)).table()) == 0


def test_what_is_covered_when_a_broker_deleted_the_beginning() -> None:
    frame = pl.DataFrame(
        [(0, 10, 100, ""), (0, 11, 50, ""), (1, 0, 900, "")],
        {"partition": pl.Int32, "offset": pl.Int64, "timestamp": pl.Int64, "verdict": pl.String},
        orient="row",
    )
    assert covered_from(frame, set(), 7) == 0
    assert covered_from(frame, {0}, 7) == 107
    assert covered_from(frame, {0, 1}, 7) == 907
    assert covered_from(frame, {0, 2}, 7) == oracle_records.MAX_TS, "nothing of partition 2 is left"


# --- findings and the page ---


def test_differences_beyond_the_limit_are_counted() -> None:
    rows = align(
        "user",
        pl.DataFrame(
            {"row": [0, 1], "user": [5, 6], "name": ["a", "b"]},
            {"row": pl.UInt32, "user": pl.UInt64, "name": pl.String},
        ),
        pl.DataFrame({"key": [6, 7], "user": [6, 7]}, {"key": pl.UInt64, "user": pl.UInt64}),
        ["user"],
    )
    assert (rows.keys.tolist(), rows.names) == ([5, 6, 7], ["a", "b", None])
    expected, found = rows.expected(np.array([1, 2])), rows.found(np.array([2, np.nan]))
    assert expected.tolist() == [1, 2, 0]
    findings = Findings(1)
    check(findings, rows, lambda _: "f", expected, found, at=9)
    assert (findings.compared, findings.differences, len(findings.first)) == (3, 2, 1)
    assert findings.first_as_dicts() == [
        {"row": "user a", "key": f"{5:016x}", "feature": "f", "at": 9, "expected": 1, "found": 0.0}
    ]
    check(findings, rows, lambda _: "f", expected, found, where=np.array([False, True, False]))
    assert (findings.compared, findings.differences) == (4, 2)


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        (VerifyResult(values_compared=5), 0, "no differences"),
        (VerifyResult(), 2, "nothing to compare"),
        (
            VerifyResult(
                values_compared=5,
                differences=3,
                rows_that_differ=2,
                rejected=1,
                rejected_by={"too_late": 1},
                first=[
                    {
                        "row": "user [red]u",
                        "key": "1",
                        "feature": "5m click",
                        "at": T0,
                        "expected": 1234567,
                        "found": 0.25,
                    },
                    {
                        "row": "item i",
                        "key": "2",
                        "feature": "row in Redis",
                        "at": None,
                        "expected": "no row",
                        "found": "x",
                    },
                ],
                notes=["records arrived meanwhile"],
            ),
            1,
            "3 differences in 2 rows|user [red]u|2023-11-14T22:13:20|1,234,567|0.25|no row|1 too_late|"
            "and 1 more|meanwhile",
        ),
    ],
)
def test_page_and_exit_code(outcome: VerifyResult, code: int, words: str) -> None:
    console = Console(width=160, record=True, color_system=None, quiet=False)
    with console.capture() as got:
        verify_page.show(console, outcome)
    assert outcome.exit_code == code
    assert all(word in got.get() for word in words.split("|")), got.get()


def test_no_broker_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["headrace", "verify"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1
    assert "no Kafka broker answers" in lines[0]


def test_without_polars_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [
        n
        for n in sys.modules
        if n.startswith(("headrace.console.verification.run", "headrace.oracle.features"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("verify", "verify_page"):
        monkeypatch.delattr(agents, name, raising=False)
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr(sys, "argv", ["headrace", "verify"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "headrace[verify]" in capsys.readouterr().err
