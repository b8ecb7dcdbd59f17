from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, item_events, pieces

from models.item_stats import COUNTRY_ROW, METRICS, ROW, WINDOWS, ItemStats, country_key
from streams.columns import ITEM_EVENT, KIND
from streams.settings import MINUTE_MS
from streams.table import Table

cuts = st.lists(st.integers(0, 60), max_size=6)
Events = np.ndarray[Any, Any]
COUNTED = {"shown": 0, "click": 1, "skip": 2, "dwell": 3, "like": 4, "save": 4}


def apply(events: Events, where: list[int] | None = None) -> ItemStats:
    stats = ItemStats()
    for part in pieces(len(events), where or []):
        stats.apply(events[part], np.arange(part.start, part.stop))
    return stats


def rows_of(table: Table) -> dict[int, bytes]:
    return dict(zip(table.keys().tolist(), table.pack(table.rows()), strict=True))


def same(a: ItemStats, b: ItemStats) -> bool:
    return rows_of(a.table) == rows_of(b.table) and rows_of(a.countries) == rows_of(b.countries)


@given(item_events(), cuts)
def test_batches_do_not_matter(events: Events, where: list[int]) -> None:
    whole = apply(events)
    assert same(whole, apply(events, where))
    assert same(whole, apply(events, list(range(len(events)))))


@given(item_events(), cuts)
def test_a_batch_delivered_again_changes_nothing(events: Events, where: list[int]) -> None:
    stats = ItemStats()
    for part in pieces(len(events), where):
        offsets = np.arange(part.start, part.stop)
        stats.apply(events[part], offsets)
        rows, countries = stats.apply(events[part], offsets)
        assert len(rows) == len(countries) == 0
    assert same(stats, apply(events))


@given(item_events(), st.integers(0, 60))
def test_a_batch_half_of_which_was_applied_is_finished(events: Events, half: int) -> None:
    stats = apply(events[:half])
    stats.apply(events, np.arange(len(events)))
    assert same(stats, apply(events))


@given(item_events(), st.integers(0, 120))
def test_item_rows_and_country_rows_need_not_be_of_the_same_moment(events: Events, half: int) -> None:
    # They are written one after the other: a crash can leave either behind.
    whole = apply(events)
    for behind in ("table", "countries"):
        crashed, old = apply(events), apply(events[:half])
        setattr(crashed, behind, getattr(old, behind))
        crashed.apply(events, np.arange(len(events)))
        assert same(crashed, whole)


@given(item_events(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(events: Events, random: Any) -> None:
    order = list(range(len(events)))
    random.shuffle(order)
    a, b = apply(events), apply(events[order])
    now = int(events["ts"].max()) if len(events) else T0
    items = a.table.keys()
    x, y = a.table.data[a.table.find(items)], b.table.data[b.table.find(items)]
    for name in ("updated", "first_ts", "last_click", "totals"):
        np.testing.assert_array_equal(x[name], y[name], err_msg=name)
    np.testing.assert_array_equal(WINDOWS.read(x, now), WINDOWS.read(y, now))
    for country in range(4):
        np.testing.assert_array_equal(
            a.country_clicks(items, country, now), b.country_clicks(items, country, now)
        )


@given(item_events())
def test_against_counting_one_by_one(events: Events) -> None:
    stats = apply(events)
    now = int(events["ts"].max()) if len(events) else T0
    names = {v: k for k, v in KIND.items()}
    for item in range(1, 5):
        totals, hour = np.zeros(len(METRICS)), np.zeros(len(METRICS))
        by_country = np.zeros(4)
        mine = [e for e in events if e["item"] == item and names[int(e["kind"])] in COUNTED]
        for e in mine:
            metric = COUNTED[names[int(e["kind"])]]
            totals[metric] += e["amount"]
            age = now // (5 * MINUTE_MS) - int(e["ts"]) // (5 * MINUTE_MS)
            if age < 12:
                hour[metric] += e["amount"]
                by_country[int(e["country"])] += metric == 1
        at = stats.table.row(item)
        assert (at >= 0) == bool(mine)
        if not mine:
            continue
        row = stats.table.data[at]
        np.testing.assert_array_equal(row["totals"], totals)
        np.testing.assert_array_equal(WINDOWS.read(row[None], now)[0, 1], hour)
        assert row["first_ts"] == min(int(e["ts"]) for e in mine)
        assert row["updated"] == max(int(e["ts"]) for e in mine)
        clicks = [int(e["ts"]) for e in mine if names[int(e["kind"])] == "click"]
        assert row["last_click"] == max(clicks, default=0)
        for country in range(1, 4):
            got = stats.country_clicks(np.array([item], np.uint64), country, now)
            assert got.tolist() == [by_country[country]]


@given(item_events())
def test_asking_never_grows_and_inputs_are_left_alone(events: Events) -> None:
    before = events.tobytes()
    stats = apply(events)
    assert events.tobytes() == before
    n = len(stats.table), len(stats.countries)
    items = np.arange(1, 50, dtype=np.uint64)
    assert stats.country_clicks(items, 9, T0).shape == (49,)
    assert not stats.country_clicks(items, 0, T0).any()
    assert stats.country_clicks(items[:0], 3, T0).shape == (0,)
    assert (len(stats.table), len(stats.countries)) == n


def test_pairs_and_hides_are_not_counted_here() -> None:
    events = np.zeros(3, ITEM_EVENT)
    events["item"], events["ts"], events["amount"] = 1, T0, 1
    events["kind"] = [KIND["pair"], KIND["hide"], KIND["follow"]]
    stats = ItemStats()
    rows, countries = stats.apply(events, np.arange(3))
    assert len(rows) == len(countries) == len(stats.table) == 0


def test_what_was_touched_is_told() -> None:
    events = np.zeros(3, ITEM_EVENT)
    events["item"], events["ts"], events["amount"] = [7, 8, 7], T0, 1
    events["kind"], events["country"] = KIND["click"], [3, 0, 3]
    stats = ItemStats()
    rows, countries = stats.apply(events, np.arange(3))
    assert sorted(stats.table.data["key"][rows].tolist()) == [7, 8]
    assert stats.countries.data["item"][countries].tolist() == [7]


def test_counts_do_not_stop_at_what_float32_can_hold() -> None:
    event = np.zeros(1, ITEM_EVENT)
    event["item"], event["ts"], event["amount"], event["kind"] = 1, T0, 1, KIND["shown"]
    stats = ItemStats()
    stats.apply(event, np.array([0]))
    stats.table.data["totals"][stats.table.row(1), 0] = 2.0**24
    stats.apply(event, np.array([1]))
    assert int(stats.table.data["totals"][stats.table.row(1), 0]) == 2**24 + 1


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), unique=True, max_size=50))
def test_country_keys_are_distinct(pairs: list[tuple[int, int]]) -> None:
    items, countries = (np.array([p[i] for p in pairs], np.uint64) for i in (0, 1))
    keys = country_key(items, countries)
    assert keys.dtype == np.uint64
    assert len(set(keys.tolist())) == len(pairs)


def test_rows_are_aligned_so_that_scattered_updates_are_fast() -> None:
    for dtype in (ROW, COUNTRY_ROW):
        assert dtype.itemsize % 8 == 0
        for name, (field, offset, *_) in dtype.fields.items():  # type: ignore[union-attr]
            assert offset % field.base.itemsize == 0, name
