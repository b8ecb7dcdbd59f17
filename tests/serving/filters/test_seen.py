"""What the caller says that the user has seen is never on the list."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import T0
from worlds import World, busy, request

from headrace.models.state.shown import ShownState
from headrace.serving.answering import Answer
from headrace.streams.messages.ids import hash_many


def popular(world: World, **changes: object) -> Answer:
    return world.recommender.popular(request("x", **changes), T0, "deadline")


def test_it_is_not_on_the_list_and_is_counted() -> None:
    world = busy()
    first = world.shown(request("x", n=10))
    again = world.shown(request("x", n=10, seen=first))
    assert len(again) == 10
    assert not set(again) & set(first)
    counts = world.recommender.pipeline.counts()["filter:seen"]
    assert counts.given - counts.kept >= 10


@pytest.mark.parametrize("explain", [False, True], ids=["held", "made"])
def test_it_is_not_on_a_popular_list_either(explain: bool) -> None:
    world = busy()
    first = [i.item_id for i in popular(world, n=10).reply.items]
    again = [i.item_id for i in popular(world, n=10, seen=first, explain=explain).reply.items]
    assert len(again) == 10
    assert not set(again) & set(first)


def test_unlike_what_rests_it_does_not_come_back_on_a_short_list() -> None:
    world, shown = World(6), ShownState()
    rest = hash_many(["i1", "i2"])
    shown.apply(hash_many(["x"]), np.array([2]), rest, np.array([T0]), np.array([0]))
    asked = request("x", n=6, seen=["i2", "i3", "never heard of"])
    world.recommender.tick(T0)
    reply = world.recommender.answer(asked, None, world.anchors(asked), T0, shown.table.data[:1]).reply
    names = [i.item_id for i in reply.items]
    assert set(names[:3]) == {"i0", "i4", "i5"}
    assert names[3:] == ["i1"]
    assert "repeated" in reply.degraded
    everything = world.answer(request("x", n=6, seen=[f"i{n}" for n in range(6)])).reply
    assert (everything.items, "candidates" in everything.degraded) == ([], True)


def test_a_new_catalogue_still_fills_the_list() -> None:
    world = World(1200)
    newest = world.shown(request("x", n=500))
    more = world.shown(request("x", n=500, seen=newest))
    assert len(more) == 500
    assert not set(more) & set(newest)
