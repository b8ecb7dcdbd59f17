from __future__ import annotations

from pools import by_id, gather
from strategies import T0
from worlds import World, item

from headrace.serving.policy import Policy


def test_a_new_item_is_a_candidate_at_once_and_a_withdrawn_one_no_more() -> None:
    world = World()
    world.publish(item(1, published_ts=T0))
    assert by_id(world, gather(world)) == {"i1": ["new"]}
    world.publish(item(2, published_ts=T0))
    assert set(by_id(world, gather(world))) == {"i1", "i2"}
    world.withdraw("i1")
    assert set(by_id(world, gather(world))) == {"i2"}


def test_the_newest_come_first() -> None:
    world = World(policy=Policy(parts={"source:new": "5"}))
    for n in range(50):
        world.publish(item(n, published_ts=T0 - (n * 37 % 50) * 1000))
    newest = {f"i{n}" for n in range(50) if n * 37 % 50 < 5}
    assert set(by_id(world, gather(world))) == newest
