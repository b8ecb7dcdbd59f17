"""Trending lists against a full pass over all rows, on random histories."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import T0

from headrace.models.state.items import COUNTS, WINDOWS, ItemState
from headrace.serving.index.country_lists import CountryLists
from headrace.serving.index.item_lists import DAYS
from headrace.serving.sources.trending import Trending, top
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import HOUR_MS, MINUTE_MS

#: How far the clock moves between two refreshes, ms.
STEPS = (
    0,
    1000,
    20_000,
    MINUTE_MS,
    7 * MINUTE_MS,
    50 * MINUTE_MS,
    3 * HOUR_MS,
    20 * HOUR_MS,
    -2000,
    -9 * MINUTE_MS,
)


def events_at(rng: np.random.Generator, now: int, items: int) -> np.ndarray[Any, Any]:
    """Return clicks around ``now``, also late ones and some that are ahead of it."""
    n = int(rng.integers(0, 25))
    out = np.zeros(n, ITEM_EVENT)
    out["item"], out["country"] = rng.integers(1, items, n), rng.integers(1, 4, n)
    out["kind"] = rng.choice([KIND["click"], KIND["click"], KIND["shown"]], n)
    spread = int(rng.choice([1000, 4 * MINUTE_MS, 70 * MINUTE_MS]))
    out["ts"], out["amount"] = now + rng.integers(-spread, min(spread, 5 * MINUTE_MS), n), 1
    return out


class History:
    """Rows that change, and lists that are told of it."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size, self.items = size, int(self.rng.integers(5, 80))
        self.stats = ItemState()
        self.trending = Trending(self.stats, 0, size, step=11, room=2 * size)
        self.trending._countries = CountryLists(self.stats.countries, size, step=11, many=6, day_size=size)
        self.now, self.offset = T0, 0

    def happen(self) -> None:
        events = events_at(self.rng, self.now, self.items)
        rows, countries = self.stats.apply(events, self.offset + np.arange(len(events)))
        self.offset += len(events)
        self.stats.idle.drop(self.stats.table.keys())  # what has a row again is not idle
        self.trending.changed(rows)
        self.trending.countries_changed(countries)
        if self.rng.random() < 0.3:
            self.drop()

    def drop(self) -> None:
        for table, share in ((self.stats.table, 0.2), (self.stats.countries, 0.1)):
            rows = table.rows()[self.rng.random(len(table)) < share]
            keys = table.data["key"][rows]
            if table is self.stats.countries:
                self.trending.countries_dropped(rows)
                table.drop(keys)
                continue
            kept_as_idle = self.rng.random(len(keys)) < 0.5
            self.stats.idle.put(table.data[rows[kept_as_idle]])
            table.drop(keys)
            self.trending.idle(keys[kept_as_idle])
            self.trending.dropped(keys[~kept_as_idle])

    def pass_time(self) -> None:
        self.now += int(self.rng.choice(STEPS))

    def refresh(self) -> None:
        for _ in range(200):
            self.trending.refresh(self.now)
            for country in range(1, 4):
                self.trending.country(country)  # the first call after a while may find that a scan is needed
                self.trending.country_today(country)
            if not self.trending.behind:
                return
        raise AssertionError("the lists do not catch up")

    def check(self) -> None:
        table = self.stats.table
        rows = table.rows()
        keys, data = table.data["key"][rows], table.data[rows]
        for got, window in ((self.trending.hour, "1h"), (self.trending.rising, "5m")):
            same(got, top(keys, WINDOWS.read_one(data, self.now, window, "click"), self.size))
        same(self.trending.days, top(keys, WINDOWS.read_one(data, self.now, "7d", "click", DAYS), self.size))
        idle = self.stats.idle.table.data[self.stats.idle.table.rows()]
        clicks = np.concatenate([COUNTS.totals(data, "click"), idle["clicks"]]).astype(np.float32)
        same(self.trending.ever, top(np.concatenate([keys, idle["key"]]), clicks, self.size))
        countries = self.stats.countries.data[self.stats.countries.rows()]
        for country in range(1, 4):
            there = countries[countries["country"] == country]
            clicks = WINDOWS.read_one(there, self.now, "1h", "click") if len(there) else np.zeros(0, "f4")
            same(self.trending.country(country), top(there["item"], clicks, self.size))
            self.check_day(country, there)

    def check_day(self, country: int, there: np.ndarray[Any, Any]) -> None:
        """A list of the last day is that of now, or of up to ten seconds ago."""
        self.trending._countries._days.clear()
        keys, clicks = self.trending.country_today(country)
        every = WINDOWS.read_one(there, self.now, "24h", "click") if len(there) else np.zeros(0, "f4")
        assert clicks.tolist() == top(there["item"], every, self.size)[1].tolist()
        of = dict(zip(there["item"].tolist(), zip(every, there["last_click"], strict=True), strict=True))
        assert [of[key][0] for key in keys.tolist()] == clicks.tolist()
        order = [(-of[key][0], -of[key][1], key) for key in keys.tolist()]
        assert order == sorted(set(order))


def same(got: Any, expected: Any) -> None:
    assert got[0].tolist() == expected[0].tolist()
    assert got[1].tolist() == expected[1].tolist()


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 8]))
def test_the_lists_are_those_of_a_full_pass(seed: int, size: int) -> None:
    history = History(seed, size)
    for _ in range(25):
        history.happen()
        history.pass_time()
        history.refresh()
        history.check()


def test_one_refresh_has_limited_work_and_the_next_ones_go_on() -> None:
    stats = ItemState()
    trending = Trending(stats, size=10, step=100, room=50)
    clicks = np.zeros(5000, ITEM_EVENT)
    clicks["item"], clicks["ts"], clicks["amount"] = np.arange(1, 5001), T0, 1
    clicks["kind"] = KIND["click"]
    rows, _ = stats.apply(clicks, np.arange(5000))
    trending.changed(rows)
    calls = 0
    while trending.behind or not calls:
        trending.refresh(T0)
        calls += 1
    assert calls == 50
    assert trending.hour[0].tolist() == list(range(1, 11))
    trending.refresh(T0 + 999)
    was = trending.hour
    trending.changed(rows[:99])
    trending.refresh(T0 + 999)
    assert trending.hour is was, "few rows wait for the next refresh"


def test_more_changes_than_can_wait_are_found_by_a_scan() -> None:
    stats = ItemState()
    trending = Trending(stats, size=10)
    clicks = np.zeros(70_000, ITEM_EVENT)
    clicks["item"], clicks["ts"], clicks["amount"] = np.arange(1, 70_001), T0, 1
    clicks["kind"] = KIND["click"]
    rows, _ = stats.apply(clicks, np.arange(len(clicks)))
    trending.changed(rows)
    calls = 0
    while trending.behind or not calls:
        trending.refresh(T0)
        calls += 1
    assert calls < 150
    assert trending.hour[0].tolist() == trending.ever[0].tolist() == list(range(1, 11))
