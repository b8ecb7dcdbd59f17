from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import T0
from worlds import World, item, request

from headrace.models.features.inputs import Candidates
from headrace.serving.retriever import Budget, Pool
from headrace.serving.sources.names import SOURCES
from headrace.serving.sources.neighbours import FADE, Anchors
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS

BIT = {name: 1 << i for i, name in enumerate(SOURCES)}


def gather(world: World, anchors: Anchors | None = None, **changes: Any) -> Pool:
    asked: dict[str, Any] = {
        "interests": [],
        "exclude": [],
        "country": 0,
        "age": -1,
        "now": T0,
        "limit": 500,
        **changes,
    }
    interests = asked.pop("interests")
    return world.recommender.retriever.gather(anchors or Anchors(), interests, **asked)


def by_id(world: World, pool: Pool) -> dict[str, list[str]]:
    return {
        world.recommender.catalog.id_of(k): pool.sources(i)
        for i, k in enumerate(pool.candidates.items.tolist())
    }


def consistent(world: World, pool: Pool) -> None:
    c: Candidates = pool.candidates
    n = len(c)
    assert len(pool.mask) == len(pool.catalog_rows) == n
    assert len(set(c.items.tolist())) == n, "a candidate twice"
    for name in c.__dataclass_fields__:
        value = getattr(c, name)
        if isinstance(value, np.ndarray):
            assert len(value) == n, name
            if value.dtype.kind == "f":
                assert np.isfinite(value).all(), name
    assert (pool.mask > 0).all(), "nobody proposed it"
    np.testing.assert_array_equal(world.recommender.catalog.table.data["key"][pool.catalog_rows], c.items)


def test_every_source_speaks_and_says_so() -> None:
    world = World(40)
    world.publish(item(99, published_ts=T0 - 1000))
    world.session("a", [1, 2, 3], T0 - 4000)
    world.session("b", [1, 2], T0 - 2 * HOUR_MS, country="BR")
    world.click("b", 5, T0, country="BR")
    anchors = world.anchors(request("a"))
    vector = world.recommender.catalog.vector(hash64("i7"))
    pool = gather(world, anchors, interests=[vector], country=hash64("BR"))
    consistent(world, pool)
    said = by_id(world, pool)
    assert {"next", "together"} <= set(said["i2"])
    assert "hot" in said["i7"]
    assert {"trending", "rising", "country"} <= set(said["i5"])
    assert "new" in said["i99"]


def test_what_the_pairs_say() -> None:
    world = World(10)
    for n in range(3):
        world.session(f"u{n}", [1, 2], T0 - 10_000 + n)
    world.session("v", [1, 3], T0 - 10_000)
    world.session("w", [4, 5], T0 - 10_000)
    anchors = Anchors([hash64("i1"), hash64("i4")])
    found = world.neighbours.table.find(anchors.items)
    anchors.rows = world.neighbours.table.data[found]
    pool = gather(world, anchors)
    c = pool.candidates
    at = {world.recommender.catalog.id_of(k): i for i, k in enumerate(c.items.tolist())}
    assert float(c.next_score[at["i2"]]) == pytest.approx(3, rel=1e-3)
    assert float(c.next_share[at["i2"]]) == pytest.approx(0.75)
    assert float(c.next_share[at["i3"]]) == pytest.approx(0.25)
    assert float(c.next_share[at["i5"]]) == 0
    assert float(c.next_share_2[at["i5"]]) == pytest.approx(1)
    assert float(c.together[at["i2"]]) == pytest.approx(3 / np.sqrt(1 + 4), rel=1e-3)
    assert float(c.together[at["i5"]]) == pytest.approx(FADE / np.sqrt(2), rel=1e-3)


def test_rules_are_kept() -> None:
    world = World()
    for n, fields in enumerate(
        (
            {},
            {"countries": ["BR"]},
            {"blocked_countries": ["BR"]},
            {"min_age": 18},
            {"published_ts": T0 + 1},
            {"published_ts": T0},
        )
    ):
        world.publish(item(n, **fields))
        world.click("u", n, T0)
    world.publish(item(7))
    world.withdraw("i7")

    def shown(country: str, age: int, *exclude: str) -> set[str]:
        pool = gather(
            world, country=hash64(country), age=age, exclude=[hash64(e) for e in exclude], wanted=20
        )
        consistent(world, pool)
        return set(by_id(world, pool))

    assert shown("", -1) == {"i0", "i5"}
    assert shown("BR", -1) == {"i0", "i1", "i5"}
    assert shown("US", 17) == {"i0", "i2", "i5"}
    assert shown("BR", 18) == {"i0", "i1", "i3", "i5"}
    assert shown("BR", 18, "i0", "i3", "never heard of") == {"i1", "i5"}


def test_an_item_that_is_not_out_yet_is_not_found_by_its_vector_either() -> None:
    world = World()
    key = world.publish(item(1, published_ts=T0 + HOUR_MS))
    vector = world.recommender.catalog.vector(key)
    assert by_id(world, gather(world, interests=[vector])) == {}
    assert by_id(world, gather(world, interests=[vector], now=T0 + HOUR_MS)) != {}


def test_clicks_on_items_the_catalogue_lacks() -> None:
    world = World(3)
    world.session("u", [1, 77, 2], T0)
    pool = gather(world, world.anchors(request("u")))
    consistent(world, pool)
    assert set(by_id(world, pool)) <= {"i0", "i1", "i2"}


def test_a_quiet_hour_is_filled_with_what_was_popular_ever_and_with_the_catalogue() -> None:
    world = World(200, budget=Budget(new=5))
    for n in range(20):
        world.click(f"u{n}", 100 + n, T0 - 3 * HOUR_MS)
    world.click("v", 150)
    few = gather(world)
    assert 1 <= len(few.candidates) <= 6
    many = gather(world, wanted=100)
    consistent(world, many)
    said = by_id(world, many)
    assert len(said) >= 100
    assert "trending" in said["i150"]
    assert all("popular" in said[f"i{100 + n}"] for n in range(20))
    assert any(s == ["catalog"] for s in said.values())


def test_no_events_at_all() -> None:
    world = World(200)
    assert len(gather(world, wanted=150).candidates) >= 150
    assert len(gather(World(), wanted=150).candidates) == 0


def test_the_limit() -> None:
    world = World(300)
    world.session("u", list(range(40)), T0)
    for limit in (0, 1, 7, 100):
        pool = gather(world, world.anchors(request("u")), limit=limit, wanted=min(limit, 50))
        consistent(world, pool)
        assert len(pool.candidates) == limit


def test_what_a_full_pool_leaves_out_is_not_the_popular() -> None:
    # A long session has hundreds of neighbours; they must not crowd out everything else.
    world = World(600)
    for n in range(10):
        for k in range(40):
            world.session(f"u{n}-{k}", [n, 100 + n * 40 + k], T0 - 30_000)
    for k in range(60):
        world.click(f"w{k}", 599)
    world.session("me", list(range(10)), T0)
    anchors = world.anchors(request("me"))
    assert anchors.rows is not None
    pool = gather(world, anchors, limit=100)
    assert len(pool.candidates) == 100
    assert "i599" in by_id(world, pool)


def test_the_newest_are_looked_up_anew_after_a_second() -> None:
    world = World()
    world.publish(item(1, published_ts=T0))
    assert by_id(world, gather(world)) == {"i1": ["new"]}
    world.publish(item(2, published_ts=T0))
    assert set(by_id(world, gather(world, now=T0 + 999))) == {"i1"}
    assert set(by_id(world, gather(world, now=T0 + 1000))) == {"i1", "i2"}
    world.withdraw("i1")
    assert set(by_id(world, gather(world, now=T0 + 1001))) == {"i2"}


def test_the_newest_come_first() -> None:
    world = World(budget=Budget(new=5))
    for n in range(50):
        world.publish(item(n, published_ts=T0 - (n * 37 % 50) * 1000))
    newest = {f"i{n}" for n in range(50) if n * 37 % 50 < 5}
    assert set(by_id(world, gather(world))) == newest


def test_gathering_changes_nothing() -> None:
    world = World(30)
    world.session("u", [1, 2, 3])
    anchors = world.anchors(request("u"))
    tables = [
        world.recommender.catalog.table,
        world.recommender.stats.table,
        world.recommender.stats.countries,
        world.neighbours.table,
    ]
    before = [(len(t), t.data.tobytes()) for t in tables]
    for country in ("", "BR", "never heard of"):
        gather(world, anchors, country=hash64(country), exclude=[5, 6])
    assert before == [(len(t), t.data.tobytes()) for t in tables]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(0, 100)), max_size=40),
    st.lists(st.integers(0, 15), max_size=5),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_any_history(story: list[tuple[int, int, int]], exclude: list[int], limit: int, wanted: int) -> None:
    world = World(12)
    for user, n, second in story:
        world.click(f"u{user}", n, T0 + second * 1000, country="BR" if n % 2 else "")
    pool = gather(
        world,
        world.anchors(request("u1"), T0 + 200_000),
        interests=[world.recommender.catalog.vector(hash64("i1"))],
        exclude=[hash64(f"i{n}") for n in exclude],
        country=hash64("BR"),
        now=T0 + 200_000,
        limit=limit,
        wanted=min(wanted, limit),
    )
    consistent(world, pool)
    assert len(pool.candidates) <= limit
    ids = set(by_id(world, pool))
    assert not ids & {f"i{n}" for n in exclude}
    assert not ids & {f"i{n}" for n in range(12, 16)}
    assert len(ids) >= min(limit, wanted, 12 - len({n for n in exclude if n < 12}))
