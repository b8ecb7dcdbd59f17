from __future__ import annotations

from strategies import T0
from worlds import World, here, request

from headrace.models.features.spec import SPEC
from headrace.serving.context import ANCHORS
from headrace.streams.messages.ids import hash64
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
