from __future__ import annotations

import numpy as np
import pytest
from strategies import T0
from worlds import World, here, request

from headrace.models.features.history import evidence
from headrace.models.features.spec import SPEC
from headrace.models.state.shown import ShownState
from headrace.serving.context import ANCHORS
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.settings import HOUR_MS


def test_anchors() -> None:
    world = World(60)
    assert world.recommender.anchors_for(request("nobody"), None, T0) == []
    world.session("me", [1, 2, 1, 3])
    at = T0 + 5000
    me = world.row("me")
    assert world.recommender.anchors_for(request("me"), me, at) == [hash64(f"i{n}") for n in (3, 1, 2)]
    home = request("me", item_id="i9")
    assert world.recommender.anchors_for(home, me, at)[:2] == [hash64("i9"), hash64("i3")]
    later = world.recommender.anchors_for(request("me"), me, T0 + 10 * HOUR_MS)
    assert later == [hash64(f"i{n}") for n in (3, 1, 2)], "a new session starts from where the last one ended"
    world.session("long", list(range(30)))
    assert len(world.recommender.anchors_for(request("long"), world.row("long"), at)) == ANCHORS


def test_the_country_is_that_of_the_request_before_that_of_the_user() -> None:
    world = World(10)
    world.profile("me", country="BR")
    for n in range(4):
        world.click(f"a{n}", 1, country="BR")
        world.click(f"b{n}", 2, country="US")
    column = SPEC.index("country_clicks_1h")
    for asked, expected in ((request("me"), "i1"), (request("me", context=here("US")), "i2")):
        ranked = world.rank(asked)
        clicked = ranked.pool.candidates.items[ranked.features[:, column] > 0].tolist()
        assert clicked == [hash64(expected)]


def test_clicks_and_showings_become_evidence_for_categories() -> None:
    world, shown = World(10), ShownState()
    world.session("me", [1, 4])
    me, names = world.row("me"), ["i4", "i5", "gone"]
    key = hash_many(["me"])
    shown.apply(key, np.array([3]), hash_many(names), np.array([T0]), np.array([0]))
    row = shown.table.data[shown.table.find(key)]
    asked = request("me")
    query = world.recommender.query(asked, me, world.anchors(asked), T0 + 5000, 10, row)
    history, (items, weights) = query.context.history, evidence(me, row)
    assert history is not None
    there = items != hash64("gone")
    assert items[there].tolist() == [hash64(name) for name in ("i4", "i1", "i5")]
    assert history.category.tolist() == world.recommender.catalog.attributes(items[there])[0].tolist()
    assert history.evidence == pytest.approx(weights[:, there])
    assert (
        world.recommender.query(request("x"), None, world.anchors(request("x")), T0, 10).context.history
        is None
    )
