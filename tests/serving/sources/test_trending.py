from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, item_events
from worlds import World

from headrace.models.state.items import WINDOWS, ItemState
from headrace.serving.index.country_lists import DAY_HOLD_MS, CountryLists
from headrace.serving.sources.trending import Trending, top
from headrace.streams.messages.columns import KIND
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS, MINUTE_MS


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 4)), max_size=40), st.integers(1, 12))
def test_top_is_sorting(pairs: list[tuple[int, int]], k: int) -> None:
    keys = np.array([p[0] for p in pairs], np.uint64)
    score = np.array([p[1] for p in pairs], np.float32)
    got_keys, got_score = top(keys, score, k)
    expected = sorted(((-s, key) for key, s in pairs if s > 0))[:k]
    assert list(zip((-got_score).tolist(), got_keys.tolist(), strict=True)) == expected
    assert got_keys.dtype == np.uint64


@given(item_events(), st.integers(0, 2 * HOUR_MS))
def test_against_counting(events: Any, later: int) -> None:
    stats = ItemState()
    stats.apply(events, np.arange(len(events)))
    now = (int(events["ts"].max()) if len(events) else T0) + later
    trending = Trending(stats)
    trending.refresh(now)
    rows = stats.table.rows()
    for name, tier in (("hour", "1h"), ("rising", "5m")):
        clicks = WINDOWS.read_one(stats.table.data[rows], now, tier, "click")
        expected = top(stats.table.data["key"][rows], clicks, 300)
        got = getattr(trending, name)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
    ever = {i: int(((events["item"] == i) & (events["kind"] == KIND["click"])).sum()) for i in range(1, 5)}
    assert dict(zip(trending.ever[0].tolist(), trending.ever[1].tolist(), strict=True)) == {
        k: v for k, v in ever.items() if v
    }
    for country in range(1, 4):
        keys, clicks = trending.country(country)
        items = np.arange(1, 5, dtype=np.uint64)
        expected = top(items, stats.country_clicks(items, country, now), 100)
        np.testing.assert_array_equal(keys, expected[0])
        np.testing.assert_array_equal(clicks, expected[1])


def test_lists_follow_the_clicks_within_the_refresh_time() -> None:
    world = World(5)
    trending = world.recommender.trending
    world.click("u", 1)
    trending.refresh(T0)
    world.click("u", 2, T0)
    world.click("v", 2, T0)
    trending.refresh(T0 + 999)
    assert trending.hour[0].tolist() == [hash64("i1")]
    trending.refresh(T0 + 1000)
    assert trending.hour[0].tolist() == [hash64("i2"), hash64("i1")]


def test_a_clock_that_is_set_back_makes_it_recompute_only_when_that_matters() -> None:
    world = World(5)
    trending = world.recommender.trending
    world.click("u", 1)
    trending.refresh(T0)
    was = trending.hour
    trending.refresh(T0 - 500)
    assert trending.hour is was
    trending.refresh(T0 - 2 * HOUR_MS)
    assert len(trending.hour[0]) == 0
    trending.refresh(T0)
    assert trending.hour[0].tolist() == [hash64("i1")]


def test_lists_empty_as_the_clicks_age() -> None:
    world = World(5)
    world.click("u", 1, country="BR")
    trending = world.recommender.trending
    trending.refresh(T0)
    assert len(trending.country(hash64("BR"))[0]) == len(trending.rising[0]) == 1
    assert len(trending.country(hash64("US"))[0]) == len(trending.country(0)[0]) == 0
    trending.refresh(T0 + 10 * MINUTE_MS)
    assert len(trending.rising[0]) == 0
    assert len(trending.hour[0]) == 1
    trending.refresh(T0 + 2 * HOUR_MS)
    assert len(trending.hour[0]) == len(trending.country(hash64("BR"))[0]) == 0
    assert len(trending.ever[0]) == 1


def test_a_dropped_row_is_in_no_list() -> None:
    world = World(5)
    world.click("u", 1)
    world.click("u", 2)
    trending = world.recommender.trending
    trending.refresh(T0)
    gone = np.array([hash64("i1")], np.uint64)
    world.recommender.stats.table.drop(gone)
    trending.dropped(gone)
    trending.refresh(T0 + 1000)
    assert trending.hour[0].tolist() == trending.ever[0].tolist() == [hash64("i2")]
    assert Trending(world.recommender.stats).hour[0].tolist() == []


def test_rows_that_were_there_before_are_found() -> None:
    world = World(5)
    for n in range(3):
        world.click("u", n, country="BR")
    trending = Trending(world.recommender.stats)
    trending.refresh(T0)
    everything = {hash64(f"i{n}") for n in range(3)}
    assert set(trending.hour[0].tolist()) == set(trending.ever[0].tolist()) == everything
    assert set(trending.country(hash64("BR"))[0].tolist()) == everything


def test_countries_that_come_later_are_found_too() -> None:
    world = World(5)
    trending = world.recommender.trending
    for n, country in enumerate(["BR", "US", "BR", "DE", "US"]):
        world.click("u", n, T0, country=country)
        trending.refresh(T0 + n * 1000)
        assert hash64(f"i{n}") in trending.country(hash64(country))[0].tolist()
    assert len(trending.country(hash64("BR"))[0]) == 2


def test_rows_of_countries_that_were_dropped_and_used_again() -> None:
    world = World(5)
    for n, country in enumerate(["BR", "BR", "US"]):
        world.click("u", n, T0, country=country)
    trending = world.recommender.trending
    trending.refresh(T0)
    assert len(trending.country(hash64("BR"))[0]) == 2
    countries = world.recommender.stats.countries
    trending.countries_dropped(countries.rows()[:1])
    countries.drop(countries.keys()[:1])
    world.click("u", 3, T0, country="DE")  # takes the row given up
    trending.refresh(T0 + 1000)
    assert trending.country(hash64("BR"))[0].tolist() == [hash64("i1")]
    assert trending.country(hash64("DE"))[0].tolist() == [hash64("i3")]


def test_asking_for_countries_nobody_clicked_from_keeps_nothing() -> None:
    trending = World(3).recommender.trending
    trending.refresh(T0)
    for n in range(100):
        trending.country(hash64(f"nowhere {n}"))
    assert not trending._countries._lists


def test_nothing_at_all() -> None:
    trending = Trending(ItemState())
    trending.refresh(T0)
    assert trending.hour[0].shape == trending.country(7)[0].shape == (0,)


def test_a_countrys_day_is_longer_than_its_hour_and_the_newest_click_decides_between_equals() -> None:
    world = World(5)
    trending = world.recommender.trending
    for n, (item, ago) in enumerate([(0, 30), (1, 3), (2, 5), (2, 6), (3, 4)]):
        world.click(f"u{n}", item, T0 - ago * HOUR_MS, country="BR")
    world.click("u", 4, T0 - 3 * HOUR_MS, country="US")
    trending.refresh(T0)
    assert trending.country(hash64("BR"))[0].tolist() == []
    keys, clicks = trending.country_today(hash64("BR"))
    assert keys.tolist() == [hash64("i2"), hash64("i1"), hash64("i3")]
    assert clicks.tolist() == [2, 1, 1]
    assert trending.country_today(hash64("US"))[0].tolist() == [hash64("i4")]


def test_a_countrys_day_is_held_for_ten_seconds() -> None:
    world = World(5)
    trending = world.recommender.trending
    world.click("u", 0, T0, country="BR")
    trending.refresh(T0)
    before = trending.country_today(hash64("BR"))
    world.click("u", 1, T0, country="BR")
    trending.refresh(T0 + DAY_HOLD_MS - 1)
    assert trending.country_today(hash64("BR"))[0] is before[0]
    trending.refresh(T0 + DAY_HOLD_MS + 1000)
    keys = [hash64("i0"), hash64("i1")]
    assert trending.country_today(hash64("BR"))[0].tolist() == sorted(keys)  # ties: by key


def test_days_of_countries_nobody_clicked_from_keep_nothing() -> None:
    trending = World(3).recommender.trending
    trending.refresh(T0)
    for n in range(100):
        assert len(trending.country_today(hash64(f"nowhere {n}"))[0]) == 0
    assert not trending._countries._days


def test_leaders_of_a_day_are_made_only_for_a_country_that_is_asked_for() -> None:
    world = World(30)
    trending = world.recommender.trending
    trending._countries = lists = CountryLists(world.recommender.stats.countries, step=8, many=4, day_size=5)
    for n in [*range(30), *range(5)]:  # the first five have two clicks
        world.click(f"u{n}", n, T0 - n * 1000, country="BR")
    trending.refresh(T0)
    assert not lists._large_days
    trending.country_today(hash64("BR"))
    looked = 0
    while lists.behind:
        waiting = [leaders.left for leaders in lists._every() if leaders.scanning]
        trending.refresh(T0)
        looked += 1
        assert waiting
    assert looked >= 30 // 8  # a few rows in each call
    assert trending.country_today(hash64("BR"))[0].tolist() == [hash64(f"i{n}") for n in range(5)]
