"""`headrace verify`: oracle and live code agree on any history, and changed values are found."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_history import Known, Live, compare, country, did, records_of, rows_of, saw, some_history
from strategies import T0

from headrace.console.verification.partitions import times_to_ask
from headrace.models.state import users as user_state
from headrace.models.state.earlier_rows import USERS_2
from headrace.models.state.users import UserState
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.items import compare_items
from headrace.oracle.compare.users import compare_users
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.settings import HOUR_MS, MINUTE_MS
from headrace.streams.tables.layouts import carried
from headrace.streams.tables.packed_rows import pack_rows


@given(
    st.lists(did, min_size=1, max_size=80),
    st.lists(saw, max_size=8),
    st.lists(st.integers(0, 100), max_size=4),
)
@settings(max_examples=60)
def test_the_live_code_and_the_oracle_agree(history: Any, seen: Any, cuts: list[int]) -> None:
    records = records_of(history)
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
        ("cat_dwell", 0.01, "log seconds of views of category"),
        ("cat_views", 0.01, "views of category"),
        ("views_from", 10_000, "log seconds of views of category"),
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


def test_rows_of_the_layout_before_have_the_views_since_they_were_read() -> None:
    """Half of the history is in rows of layout 2; the other half is applied to what is made of them."""
    viewed = [(u, "dwell", 1 + n % 3, 1000, 0, 30_000, "", 30, False) for n in range(20) for u in range(2)]
    records = records_of(viewed)
    live, known = Live(), Known(records, [])
    live.events(records[:20])
    table = live.users.table
    before = carried(rows_of(table), np.zeros((), USERS_2)[()], USERS_2)
    before["layout"] = 2
    live.users = UserState(user_state.new_table(), 30 * MINUTE_MS)
    assert live.users.table.load([pack_rows(before, np.array([n]))[0] for n in range(2)]) == 2
    live.events(records[20:])
    at = int(max(known.users.newest()))
    assert compare(known, live, [at]).differences == 0
    data = live.users.table.data
    assert data["cat_views"][live.users.table.rows()].sum() == pytest.approx(20, rel=1e-3)
    data["views_from"][live.users.table.row(hash64("user-0"))] = 0
    assert {d.row for d in compare(known, live, [at]).first} == {"user user-0"}


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
    compare_users(every, known.users, live.user_values(), known.attributes, [newest])
    assert {d.row for d in every.first} == {"user user-1"}
    assert {d.found for d in every.first if d.feature.startswith("total")} == {0}
    every = Findings(10_000)
    for part, values in zip(known.items, live.item_values(), strict=True):
        compare_items(every, part, values, [newest])
    assert "item 0000000000003039" in {d.row for d in every.first}
    assert "item item-3 in BR" in {d.row for d in every.first}
    assert "key" in {d.feature for d in every.first}
    assert findings.differences > findings.limit == len(findings.first)


def test_windows_before_the_newest_act_are_compared_where_rows_are_exact() -> None:
    """user-0 was last seen an hour before user-1: at that time only user-0's windows are exact."""
    records = records_of(
        [(0, "click", 1, 0, 0, 0, "", 30, False), (1, "click", 1, HOUR_MS, 0, 0, "", 30, False)]
    )
    known, live = Known(records, []), Live()
    live.events(records)
    for at, rows in ((T0, 1), (T0 + HOUR_MS - 5 * MINUTE_MS, 2), (T0 - 6 * MINUTE_MS, 0)):
        findings = Findings()
        compare_users(findings, known.users, live.user_values(), known.attributes, [at], covered_from=1)
        assert (findings.compared, findings.differences) == (rows * 5 * 9, 0)


def test_only_windows_that_are_covered_are_compared_when_the_beginning_is_gone() -> None:
    live, known = some_history()
    newest = int(max(known.users.newest()))
    late = Known([], [])
    findings = Findings()
    compare_users(
        findings,
        late.users,
        live.user_values(),
        known.attributes,
        [newest + 2 * HOUR_MS],
        covered_from=newest,
    )
    assert (findings.compared, findings.differences) == (4 * 3 * 9, 0), "5m, 30m and 1h begin after `newest`"
    findings = Findings()
    compare_items(findings, late.items[0], live.item_values()[0], [newest], covered_from=newest - HOUR_MS)
    assert findings.differences > 0


def test_clicks_at_the_same_time_may_stand_in_any_order() -> None:
    """25 clicks at one time: any 20 of them are the last 20."""
    records = records_of([(0, "click", i % 8, 0, 0, 0, "", 30, False) for i in range(25)])
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
