from __future__ import annotations

from pools import by_id, consistent, gather
from strategies import T0
from worlds import World, item

from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS


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
        pool = gather(world, country=hash64(country), age=age, exclude=list(exclude), wanted=20)
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
