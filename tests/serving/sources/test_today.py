"""What was clicked hours ago, and not in the last one, is still a candidate."""

from __future__ import annotations

import numpy as np
from strategies import T0
from worlds import World, request

from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS


def candidates_of(world: World) -> dict[int, list[str]]:
    asked = request(n=1)
    world.recommender.tick(T0)
    query = world.recommender.query(asked, world.row("u"), world.anchors(asked), T0, 500)
    pool = world.recommender.pipeline.gather(query)
    return {int(key): pool.sources(i) for i, key in enumerate(pool.candidates.items)}


def test_what_was_clicked_hours_ago_is_a_candidate_and_the_hour_before_that_is_not() -> None:
    world = World(3, category="", creator_id="", tags=[], title="")
    world.click("a", 0, T0 - 8 * HOUR_MS)
    world.click("b", 1, T0 - 3 * HOUR_MS)
    found = candidates_of(world)
    assert "today" in found[hash64("i1")]
    assert "trending" not in found[hash64("i1")]
    assert "today" not in found.get(hash64("i0"), [])


def test_the_items_with_most_clicks_come_first() -> None:
    world = World(4, category="", creator_id="", tags=[], title="")
    for n in range(4):
        for k in range(n):
            world.click(f"reader{n}-{k}", n, T0 - 2 * HOUR_MS)
    world.recommender.tick(T0)
    keys = np.array([hash64(f"i{n}") for n in (3, 2, 1)], np.uint64)
    assert world.recommender.trending.today[0].tolist() == keys.tolist()
