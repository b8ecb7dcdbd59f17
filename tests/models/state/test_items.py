from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import window_rows
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, item_events, offsets_ms, pieces

from headrace.models.state.counts import HALF_LIFE_MS
from headrace.models.state.item_events import choose_item_events, combine_item_events
from headrace.models.state.items import (
    COUNTS,
    METRICS,
    ROW,
    WINDOWS,
    ItemState,
    country_key,
    place_key,
    places_of,
)
from headrace.streams.messages.ages import N_GROUPS
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from headrace.streams.tables.rows import RowTable
from headrace.streams.windows import WINDOW_NAMES

cuts = st.lists(st.integers(0, 60), max_size=6)

Events = np.ndarray[Any, Any]

COUNTED = {"shown": 0, "click": 1, "skip": 2, "dwell": 3, "like": 4, "save": 4}


def apply(events: Events, where: list[int] | None = None) -> ItemState:
    stats = ItemState()
    for part in pieces(len(events), where or []):
        stats.apply(events[part], np.arange(part.start, part.stop))
    return stats


def rows_of(table: RowTable) -> dict[int, bytes]:
    return dict(zip(table.keys().tolist(), table.pack(table.rows()), strict=True))


def same(a: ItemState, b: ItemState) -> bool:
    return rows_of(a.table) == rows_of(b.table) and rows_of(a.countries) == rows_of(b.countries)


@given(item_events(), cuts)
def test_batches_do_not_matter(events: Events, where: list[int]) -> None:
    whole = apply(events)
    assert same(whole, apply(events, where))
    assert same(whole, apply(events, list(range(len(events)))))


@given(item_events(), cuts)
def test_a_batch_delivered_again_changes_nothing(events: Events, where: list[int]) -> None:
    stats = ItemState()
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
    np.testing.assert_allclose(x["decayed"], y["decayed"], rtol=1e-12)
    for country in range(4):
        np.testing.assert_array_equal(
            a.country_clicks(items, country, now), b.country_clicks(items, country, now)
        )


SPANS = {
    "5m": (MINUTE_MS, 5),
    "30m": (5 * MINUTE_MS, 6),
    "1h": (5 * MINUTE_MS, 12),
    "24h": (HOUR_MS, 24),
    "7d": (DAY_MS, 7),
}


def check(row: Any, mine: list[Any], now: int) -> None:
    """Compare a row with adding up its events one by one."""
    totals, decayed = np.zeros(len(METRICS)), np.zeros(len(METRICS))
    windows = np.zeros((len(WINDOW_NAMES), len(METRICS)))
    for e in mine:
        metric, ts, amount = COUNTED[NAMES[int(e["kind"])]], int(e["ts"]), int(e["amount"])
        totals[metric] += amount
        minute = ts // MINUTE_MS * MINUTE_MS
        decayed[metric] += amount * 0.5 ** ((now - minute) / HALF_LIFE_MS)
        for w, name in enumerate(WINDOW_NAMES):
            bucket, n = SPANS[name]
            windows[w, metric] += amount * (now // bucket - ts // bucket < n)
    np.testing.assert_array_equal([COUNTS.totals(row[None], m)[0] for m in METRICS], totals)
    np.testing.assert_array_equal(WINDOWS.read(row[None], now)[0], windows)
    np.testing.assert_allclose(COUNTS.decayed(row[None], now)[0], decayed, rtol=1e-9)
    assert row["first_ts"] == min(int(e["ts"]) for e in mine)
    assert row["updated"] == max(int(e["ts"]) for e in mine)
    assert row["last_click"] == max((int(e["ts"]) for e in mine if e["kind"] == KIND["click"]), default=0)


BY_AGE = ("shown", "click")
NAMES = {v: k for k, v in KIND.items()}


@given(item_events())
def test_against_counting_one_by_one(events: Events) -> None:
    stats = apply(events)
    now = int(events["ts"].max()) if len(events) else T0
    counted = [e for e in events if NAMES[int(e["kind"])] in COUNTED]
    assert set(stats.table.keys().tolist()) == {int(e["item"]) for e in counted}
    for item in stats.table.keys().tolist():
        row = stats.table.data[stats.table.row(item)]
        assert (row["item"], row["country"]) == (item, 0)
        check(row, [e for e in counted if e["item"] == item], now)
    there = {(int(e["item"]), int(e["country"])) for e in counted if e["country"]}
    aged = [e for e in counted if e["country"] and e["age_group"] and NAMES[int(e["kind"])] in BY_AGE]
    groups = {(int(e["item"]), int(e["country"]), int(e["age_group"])) for e in aged}
    assert len(stats.countries) == len(there) + len(groups)
    for item, country, group in groups:
        place = place_key(country, group)
        key = country_key(np.array([item], np.uint64), np.array([place], np.uint64))
        row = stats.countries.data[stats.countries.find(key)[0]]
        assert (row["item"], row["country"]) == (item, place)
        of = (item, country, group)
        check(row, [e for e in aged if (e["item"], e["country"], e["age_group"]) == of], now)
    for item, country in there:
        key = country_key(np.array([item], np.uint64), np.array([country], np.uint64))
        row = stats.countries.data[stats.countries.find(key)[0]]
        assert (row["item"], row["country"]) == (item, country)
        mine = [e for e in counted if (e["item"], e["country"]) == (item, country)]
        check(row, mine, now)
        got = stats.country_clicks(np.array([item], np.uint64), country, now)
        hour = [
            e for e in mine if e["kind"] == KIND["click"] and now // 300_000 - int(e["ts"]) // 300_000 < 12
        ]
        assert got.tolist() == [len(hour)]


@given(item_events())
def test_events_put_together_count_as_one_by_one(events: Events) -> None:
    together = combine_item_events(events)
    one_by_one, at_once = apply(events), apply(together)
    for a, b in ((one_by_one.table, at_once.table), (one_by_one.countries, at_once.countries)):
        assert sorted(a.keys().tolist()) == sorted(b.keys().tolist())
        mine, theirs = a.data[a.find(a.keys())], b.data[b.find(a.keys())]
        for name in set(ROW.names or ()) - {"offset", "decayed"}:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
        np.testing.assert_allclose(mine["decayed"], theirs["decayed"], rtol=1e-12)


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
    stats = ItemState()
    rows, countries = stats.apply(events, np.arange(3))
    assert len(rows) == len(countries) == len(stats.table) == 0


def test_what_was_touched_is_told() -> None:
    events = np.zeros(3, ITEM_EVENT)
    events["item"], events["ts"], events["amount"] = [7, 8, 7], T0, 1
    events["kind"], events["country"] = KIND["click"], [3, 0, 3]
    stats = ItemState()
    rows, countries = stats.apply(events, np.arange(3))
    assert sorted(stats.table.data["key"][rows].tolist()) == [7, 8]
    assert stats.countries.data["item"][countries].tolist() == [7]


def one(kind: str, amount: int = 1, n: int = 1) -> Events:
    event = np.zeros(n, ITEM_EVENT)
    event["item"], event["ts"], event["amount"], event["kind"] = 1, T0, amount, KIND[kind]
    return event


def test_totals_go_beyond_32_bits_and_stop_at_40() -> None:
    stats = ItemState()
    stats.apply(one("shown"), np.array([0]))
    row = stats.table.row(1)
    stats.table.data["totals"][row, 0] = 2**32 - 1
    stats.apply(one("shown"), np.array([1]))
    assert COUNTS.totals(stats.table.data[row], "shown") == 2**32
    stats.table.data["totals"][row, 0], stats.table.data["totals_x"][row, 0] = 2**32 - 2, 255
    stats.apply(one("shown", n=3), np.array([2, 3, 4]))
    assert COUNTS.totals(stats.table.data[row], "shown") == 2**40 - 1


def test_windows_go_beyond_16_bits_and_stop_at_24_and_32() -> None:
    stats = ItemState()
    dwell = one("dwell", amount=86_400, n=400)
    stats.apply(dwell, np.arange(400))
    got = {name: WINDOWS.read_one(stats.table.view(), T0, name, "dwell_s")[0] for name in WINDOW_NAMES}
    assert got == {"5m": 2**24 - 1, "30m": 2**24 - 1, "1h": 2**24 - 1, "24h": 2**24 - 1, "7d": 400 * 86_400}


def test_records_of_one_offset_count_together_and_once() -> None:
    stats = ItemState()
    events = one("click", n=3)
    events["country"] = [5, 5, 6]
    rows, countries = stats.apply(events, np.full(3, 7))
    assert (len(rows), len(countries)) == (1, 2)
    assert COUNTS.totals(stats.table.data[rows], "click").tolist() == [3]
    rows, countries = stats.apply(events, np.full(3, 7))
    assert len(rows) == len(countries) == 0


def test_the_kernel_refuses_what_it_was_not_made_for() -> None:
    stats = ItemState()
    broken = one("click")
    broken["ts"], broken["span"] = 5, 6
    with pytest.raises(ValueError, match="item event"):
        stats.apply(broken, np.array([0]))
    with pytest.raises(ValueError, match="offsets"):
        stats.apply(one("click"), np.array([0, 1]))
    with pytest.raises(ValueError, match="offsets do not fall"):
        stats.apply(one("click", n=2), np.array([1, 0]))
    with pytest.raises(ValueError, match="1 wanted, 2 events"):
        stats.apply(one("click", n=2), np.array([0, 1]), np.array([True]))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), offsets_ms, st.integers(0, 4), st.sampled_from([0, 1, 70_000, 2**24])),
        max_size=40,
    )
)
def test_counting_adds_what_a_plain_writer_of_windows_adds(told: list[tuple[int, int, int, int]]) -> None:
    rows, later, metric, amount = (np.array([t[i] for t in told], np.int64) for i in range(4))
    a, b = np.zeros(4, ROW), np.zeros(4, ROW)
    COUNTS.counter(ROW).add(a, rows, T0 + later, metric, amount)
    window_rows.add_plainly(WINDOWS, b, rows, T0 + later, metric, amount)
    for name in (f[0] for f in WINDOWS.fields()):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), unique=True, max_size=50))
def test_country_keys_are_distinct(pairs: list[tuple[int, int]]) -> None:
    items, countries = (np.array([p[i] for p in pairs], np.uint64) for i in (0, 1))
    keys = country_key(items, countries)
    assert keys.dtype == np.uint64
    assert len(set(keys.tolist())) == len(pairs)
    expected = items + countries * np.uint64(0x9E3779B97F4A7C15)  # splitmix64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        expected = (expected ^ (expected >> np.uint64(shift))) * np.uint64(factor)
    assert keys.tolist() == (expected ^ (expected >> np.uint64(31))).tolist()
    for one in countries[:3]:
        assert (
            country_key(items, np.array([one])).tolist()
            == country_key(items, np.full_like(items, one)).tolist()
        )
    with pytest.raises(ValueError, match="3 items, 2 countries"):
        country_key(np.zeros(3, np.uint64), np.zeros(2, np.uint64))


def test_rows_are_aligned_so_that_scattered_updates_are_fast() -> None:
    assert ROW.itemsize % 8 == 0
    assert ROW.itemsize <= 1024
    for name, (field, offset, *_) in ROW.fields.items():  # type: ignore[union-attr]
        assert offset % field.base.itemsize == 0, name


@given(item_events(), st.randoms(use_true_random=False))
def test_only_wanted_events_count(events: Events, random: Any) -> None:
    wanted = np.array([random.random() < 0.5 for _ in range(len(events))], bool)
    some, few = ItemState(), ItemState()
    rows = some.apply(events, np.arange(len(events)), wanted)
    again = few.apply(events[wanted], np.arange(len(events))[wanted])
    assert [r.tolist() for r in rows] == [r.tolist() for r in again]
    for a, b in ((some.table, few.table), (some.countries, few.countries)):
        assert a.keys().tolist() == b.keys().tolist()
        assert a.view().tobytes() == b.view().tobytes()


@given(item_events(), st.sets(st.integers(0, 8)))
def test_events_are_chosen_by_kind_and_country(events: Events, kinds: set[int]) -> None:
    chosen = [k in kinds for k in range(len(KIND))]
    ours = np.array([int(e["kind"]) in kinds for e in events], bool)
    at, keys = choose_item_events(events, None, chosen, 0)
    assert at.tolist() == np.flatnonzero(ours).tolist()
    assert keys.tolist() == events["item"][at].tolist()
    at, keys = choose_item_events(events, None, chosen, 1)
    assert at.tolist() == np.flatnonzero(ours & (events["country"] != 0)).tolist()
    assert keys.tolist() == country_key(events["item"][at], events["country"][at]).tolist()
    at, keys = choose_item_events(events, None, chosen, 2)
    aged = ours & (events["country"] != 0) & (events["age_group"] != 0)
    assert at.tolist() == np.flatnonzero(aged).tolist()
    places = [place_key(int(e["country"]), int(e["age_group"])) for e in events[at]]
    assert keys.tolist() == country_key(events["item"][at], np.array(places, np.uint64)).tolist()
    assert set(places_of(events).tolist()) >= {
        *keys.tolist(),
        *country_key(events["item"], events["country"]).tolist(),
    }


def test_groups_of_a_country_have_other_keys_than_it_and_none_without_it() -> None:
    keys = {place_key(hash64(c), g) for c in ("BR", "NL", "DE") for g in range(N_GROUPS)}
    assert len(keys) == 3 * N_GROUPS
    assert place_key(hash64("BR"), 0) == hash64("BR")
    assert place_key(0, 3) == 0


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0, 1, 70_000])), max_size=60)
)
def test_a_row_counts_what_its_minutes_say_in_any_order(told: list[tuple[int, int, int]]) -> None:
    """Events of days apart, with amounts that need the high parts, against a plain writer of windows."""
    events = np.zeros(len(told), ITEM_EVENT)
    events["item"], events["kind"] = 1, KIND["dwell"]
    events["ts"] = [T0 + day * 7 * HOUR_MS + minute * 13_000 for day, minute, _ in told]
    events["amount"] = [amount for _, _, amount in told]
    stats, plain = ItemState(), np.zeros(1, ROW)
    stats.apply(events, np.arange(len(events)))
    rows, metric = np.zeros(len(told), np.int64), np.full(len(told), METRICS.index("dwell_s"))
    amounts = events["amount"].astype(np.int64)
    window_rows.add_plainly(WINDOWS, plain, rows, events["ts"], metric, amounts)
    if len(told):
        row = stats.table.data[stats.table.row(1)]
        for name in (f[0] for f in WINDOWS.fields()):
            np.testing.assert_array_equal(row[name], plain[0][name], err_msg=name)
        assert COUNTS.totals(row, "dwell_s") == amounts.sum()
        assert row["updated"] == events["ts"].max()
        ages = (T0 - events["ts"] // MINUTE_MS * MINUTE_MS) / HALF_LIFE_MS
        decayed = COUNTS.decayed(stats.table.data[[stats.table.row(1)]], T0)[0, METRICS.index("dwell_s")]
        assert decayed == pytest.approx((amounts * 0.5**ages).sum(), rel=1e-9)
