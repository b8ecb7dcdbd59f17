from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from pools import by_id, consistent, gather
from strategies import T0
from worlds import World, item, request

from headrace.serving.policy import Policy
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS


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


def test_clicks_on_items_the_catalogue_lacks() -> None:
    world = World(3)
    world.session("u", [1, 77, 2], T0)
    pool = gather(world, world.anchors(request("u")))
    consistent(world, pool)
    assert set(by_id(world, pool)) <= {"i0", "i1", "i2"}


def test_a_quiet_hour_is_filled_with_what_was_popular_ever_and_with_the_catalogue() -> None:
    world = World(200, policy=Policy(parts={"source:new": "5"}))
    for n in range(20):
        world.click(f"u{n}", 100 + n, T0 - 9 * HOUR_MS)
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
        pool = gather(world, world.anchors(request("u")), limit=limit, wanted=limit)
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
        gather(world, anchors, country=hash64(country), exclude=["x", "y"])
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
        exclude=[f"i{n}" for n in exclude],
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
