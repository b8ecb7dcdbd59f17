from __future__ import annotations

from pools import by_id, gather
from strategies import T0
from worlds import World, item

from headrace.serving.retriever import Budget


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
