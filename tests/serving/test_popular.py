"""The cheapest list is held for a second, and never shows what must not be shown."""

from __future__ import annotations

import pytest
from strategies import T0
from worlds import World, here, item, request

from headrace.serving import popular
from headrace.serving.filters.language import Language
from headrace.serving.popular import HOLD_S, MOST_HELD, PopularLists, plain_query
from headrace.streams.messages.ids import hash64


class Seconds:
    """A clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def world_of_clicks(items: int = 40) -> World:
    """Return a world in which item 0 has the most clicks, then item 1, and so on."""
    world = World(items)
    for n in range(10):
        for k in range(10 - n):
            world.click(f"u{k}", n, T0)
    world.recommender.tick(T0)
    return world


def listed(
    world: World, lists: PopularLists, user: str = "nobody", country: str = "", **changes: object
) -> list[str]:
    asked = request(user, n=4, **changes)
    found = lists.found(
        plain_query(asked, T0, hash64(country), -1, world.recommender.policy, world.row(user))
    )
    return [i.item_id for i in found.items(world.recommender.catalog.id_of)] if found else []


def proposals(world: World) -> int:
    """Return how often the popular items of the hour were asked for."""
    return world.recommender.pipeline.counts()["source:trending"].calls


def test_sources_are_asked_once_a_second_for_each_surface_and_country() -> None:
    world, clock = world_of_clicks(), Seconds()
    lists = PopularLists(world.recommender.pipeline, clock)
    for _ in range(3):
        assert listed(world, lists) == ["i0", "i1", "i2", "i3"]
    assert proposals(world) == 1
    listed(world, lists, country="BR")
    listed(world, lists, surface="digest")
    assert proposals(world) == 3
    for _ in range(11):
        world.click("u0", 3, T0)
    world.recommender.tick(T0 + 2000)
    assert listed(world, lists)[0] == "i0", "what is held is still used"
    clock.now = HOLD_S
    assert listed(world, lists)[0] == "i3"


def test_what_is_true_now_decides_what_is_shown() -> None:
    world, clock = world_of_clicks(), Seconds()
    lists = PopularLists(world.recommender.pipeline, clock)
    assert listed(world, lists)[0] == "i0"
    world.withdraw("i0")
    assert listed(world, lists) == ["i1", "i2", "i3", "i4"]
    assert listed(world, lists, exclude=["i1"]) == ["i2", "i3", "i4", "i5"]
    world.publish(item(2, min_age=18))
    assert listed(world, lists) == ["i1", "i3", "i4", "i5"]
    world.click("picky", 3, T0, kind="hide")
    assert listed(world, lists, "picky") == ["i1", "i4", "i5", "i6"]


def test_the_best_ones_are_filtered_first_and_the_others_when_too_few_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_of_clicks()
    lists = PopularLists(world.recommender.pipeline, Seconds())
    excluded = [[f"i{n}" for n in some] for some in ([], [1], [0, 2, 5], range(7), range(3, 9))]
    whole = [listed(world, lists, exclude=some) for some in excluded]
    passed = world.recommender.pipeline.counts()["filter:excluded"]
    monkeypatch.setattr(popular, "_PER_SLOT", 2)
    monkeypatch.setattr(popular, "_AT_LEAST", 2)
    for some, expected in zip(excluded, whole, strict=True):
        before = passed.given
        assert listed(world, lists, exclude=some) == expected
        assert (passed.given - before > 8) == (len(some) > 4)


def test_a_part_that_fails_is_named_once_when_all_are_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of_clicks()
    monkeypatch.setattr(popular, "_PER_SLOT", 1)
    monkeypatch.setattr(popular, "_AT_LEAST", 1)
    monkeypatch.setattr(Language, "keep", lambda *_: 1 / 0)
    asked = plain_query(request(n=4, exclude=["i0"]), T0, 0, -1, world.recommender.policy)
    assert PopularLists(world.recommender.pipeline).found(asked) is not None
    assert asked.left_out == ["filter:language"]


def test_too_few_items_are_no_list_but_the_recommender_has_one() -> None:
    world = world_of_clicks(12)
    lists = PopularLists(world.recommender.pipeline)
    asked = request(n=10, exclude=[f"i{n}" for n in range(4)])
    assert lists.found(plain_query(asked, T0, 0, -1, world.recommender.policy)) is None
    answer = world.recommender.popular(asked, T0, "deadline").reply
    assert len(answer.items) == 8
    assert answer.degraded == ["deadline"]


def test_both_ways_begin_with_the_same_items() -> None:
    world = world_of_clicks()
    held = world.recommender.popular(request(n=8, context=here("BR")), T0, "deadline").reply.items
    made = world.recommender.popular(
        request(n=8, context=here("BR"), explain=True), T0, "deadline"
    ).reply.items
    assert [i.item_id for i in held] == [f"i{n}" for n in range(8)]
    first = [[(i.item_id, i.score) for i in found[:4]] for found in (held, made)]
    assert first[0] == first[1]


def test_callers_cannot_fill_memory_with_countries() -> None:
    world = world_of_clicks()
    lists = PopularLists(world.recommender.pipeline, Seconds())
    for n in range(MOST_HELD + 5):
        listed(world, lists, country=f"C{n}")
    assert len(lists._held) <= MOST_HELD
