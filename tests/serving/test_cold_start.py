"""Users of whom little or nothing is known."""

from __future__ import annotations

from strategies import T0
from worlds import World, here, item, request

from headrace.streams.settings import HOUR_MS

MUSIC, SPORT = range(100, 130), range(200, 230)


def two_tastes() -> World:
    """Return a world of music and sport; others read both, sport in Brazil and music elsewhere."""
    world = World()
    for n in MUSIC:
        world.publish(
            item(n, category="music", tags=["song", "band"], title=f"Song {n} by a band", creator_id="m")
        )
    for n in SPORT:
        world.publish(
            item(n, category="sport", tags=["goal", "match"], title=f"Match {n}, a goal", creator_id="s")
        )
    for n in range(20):
        for items, country in ((MUSIC, "US"), (SPORT, "BR")):
            world.session(f"{country}{n}", [items[n], items[n + 3], items[n + 5]], T0 - HOUR_MS // 2, country)
    return world


def music(listed: list[str]) -> int:
    """Return how many items of a list are music."""
    return sum(int(i[1:]) in MUSIC for i in listed)


def test_a_user_of_whom_nothing_is_known_gets_a_full_list_of_both() -> None:
    world = two_tastes()
    answer = world.answer(request("nobody", n=10)).reply
    assert len(answer.items) == 10
    assert "candidates" not in answer.degraded
    assert 2 <= music([i.item_id for i in answer.items]) <= 8


def test_a_new_user_gets_what_is_popular_in_the_country() -> None:
    world = two_tastes()
    american = music(world.shown(request("nobody", n=10, context=here("US"))))
    brazilian = music(world.shown(request("nobody", n=10, context=here("BR"))))
    assert american > brazilian


def test_a_new_user_with_preferences_gets_them() -> None:
    world = two_tastes()
    world.profile("u", preferred_categories=["music"])
    world.profile("v", preferred_categories=["sport"])
    assert music(world.shown(request("u", n=10))) > music(world.shown(request("v", n=10)))


def test_three_clicks_turn_the_list() -> None:
    world = two_tastes()
    before = music(world.shown(request("u", n=10)))
    world.session("u", list(MUSIC[:3]), T0 - 5000)
    after = world.shown(request("u", n=10))
    assert music(after) > before
    assert music(after) >= 8
    assert not {f"i{n}" for n in MUSIC[:3]} & set(after), "not what was just read"
