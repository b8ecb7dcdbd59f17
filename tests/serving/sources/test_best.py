"""A digest: the most read of the last days that the user has not seen."""

from __future__ import annotations

import numpy as np
from strategies import T0
from worlds import World, item, request

from headrace.models.state import shown as shown_state
from headrace.models.state.shown import ShownState
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, HOUR_MS


def digest(world: World, shown: np.ndarray | None = None, n: int = 3) -> list[str]:
    asked = request(surface="digest", n=n)
    world.recommender.tick(T0)
    anchors = world.anchors(asked)
    return [
        i.item_id for i in world.recommender.answer(asked, world.row("u"), anchors, T0, shown).reply.items
    ]


def read_lately() -> World:
    """Return a world in which item 5 was read most, then 4, 3, ...; yesterday, and by others."""
    world = World(6, category="", creator_id="", tags=[], title="")
    for n in range(6):
        for k in range(n):
            world.click(f"reader{n}-{k}", n, T0 - DAY_MS)
    return world


def test_yesterdays_most_read_items_are_in_a_digest_and_say_so() -> None:
    world = read_lately()
    asked = request(surface="digest", n=6, explain=True)
    found = {i.item_id: i for i in world.answer(asked).reply.items}
    assert "best" in found["i5"].sources
    assert "most read in the last days (5 clicks)" in (found["i5"].why or [])
    assert "best" not in found["i0"].sources, "nobody read it"
    home = {i.item_id: i for i in world.answer(request(n=6)).reply.items}
    assert all("best" not in i.sources for i in home.values())


def test_what_was_read_three_days_ago_is_not_among_the_best() -> None:
    world = read_lately()
    world.publish(item(7))
    world.click("a", 7, T0 - 3 * DAY_MS)
    world.recommender.tick(T0)
    assert hash64("i7") not in world.recommender.trending.days[0].tolist()
    assert world.recommender.trending.days[0].tolist()[:2] == [hash64("i5"), hash64("i4")]


def test_what_the_user_was_shown_or_read_long_ago_is_in_no_digest() -> None:
    world = read_lately()
    assert set(digest(world, n=6)) == {f"i{n}" for n in range(6)}
    state = ShownState()
    items = np.array([hash64("i5"), hash64("i4")], np.uint64)
    long_ago = np.array([T0 - 20 * HOUR_MS])
    row = state.apply(np.array([1], np.uint64), np.array([2]), items, long_ago, np.array([0]))
    shown = state.table.data[row]
    assert set(shown["items"][0][:2].tolist()) == set(items.tolist())
    assert shown_state.shown_lately(shown[0], T0).tolist() == [], "at home, they may come again"
    world.click("u", 3, T0 - 3 * DAY_MS)
    assert set(digest(world, shown)) == {"i0", "i1", "i2"}
