"""What few people click, and somebody in the user's country has clicked today, is a candidate."""

from __future__ import annotations

from strategies import T0
from worlds import World, request

from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context
from headrace.streams.settings import HOUR_MS


def candidates_of(world: World, country: str) -> dict[int, list[str]]:
    asked = request(n=1, context=Context(country=country))
    world.recommender.tick(T0)
    query = world.recommender.query(asked, world.row("u"), world.anchors(asked), T0, 500)
    pool = world.recommender.pipeline.gather(query)
    return {int(key): pool.sources(i) for i, key in enumerate(pool.candidates.items)}


def clicked() -> World:
    world = World(4, category="", creator_id="", tags=[], title="")
    world.click("a", 0, T0 - 30 * HOUR_MS, country="BR")
    world.click("b", 1, T0 - 10 * HOUR_MS, country="BR")
    world.click("c", 1, T0 - 8 * HOUR_MS, country="BR")
    world.click("d", 2, T0 - 10 * HOUR_MS, country="US")
    return world


def test_what_the_country_clicked_today_is_a_candidate_there_only() -> None:
    world = clicked()
    at_home, abroad, nowhere = (candidates_of(world, country) for country in ("BR", "US", ""))
    assert "country_today" in at_home[hash64("i1")]
    assert "country_today" not in abroad.get(hash64("i1"), [])
    assert "country_today" in abroad[hash64("i2")]
    assert "country_today" not in at_home.get(hash64("i0"), []), "clicked yesterday"
    assert all("country_today" not in sources for sources in nowhere.values())


def test_the_reason_says_how_many_clicks() -> None:
    world = clicked()
    asked = request(n=4, explain=True, context=Context(country="BR"))
    found = {i.item_id: i.why or [] for i in world.answer(asked).reply.items}
    assert "popular in your country today (2 clicks in 24 hours)" in found["i1"]
