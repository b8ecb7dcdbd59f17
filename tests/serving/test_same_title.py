"""Items with the same title: one is on a list, and the propensities are those of the list as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from frequencies import Frequencies
from strategies import T0
from worlds import World, item, request

from headrace.serving.catalog import Catalog
from headrace.serving.policy import Policy
from headrace.serving.rerank.rules import OFF
from headrace.serving.titles import comparable, numbers_of

RULES = replace(OFF, epsilon=0.3)
STORY, OTHER = "The same story everywhere", "the SAME  story everywhere"


def small(**parts: str) -> World:
    """Return a world with five items, the two best of which are one story."""
    policy = Policy(rules=RULES, parts={f"late:{name}": value for name, value in parts.items()})
    world = World(policy=policy)
    for n in range(5):
        title = {0: STORY, 1: OTHER}.get(n, f"A story of its own, number {n}")
        world.publish(item(n, title=title, category="news", creator_id=f"c{n}", tags=[]))
    for n in range(5):
        for _ in range(10 - n):
            world.click("somebody", n)
    return world


def test_propensities_are_the_frequencies_where_a_second_title_was_left_out() -> None:
    world, lists = small(), Frequencies()
    for n in range(3000):
        asked = request("u", request_id=f"r{n}", n=3)
        ranked = world.recommender.rank(asked, None, world.anchors(asked), T0)
        assert len(ranked.slate.tried) == 0, "the late filter has nothing to do"
        lists.add(ranked.slate)
        titles = [world.recommender.catalog.title_of(key) for key in shown(ranked)]
        assert len(set(map(comparable, titles))) == 3
    lists.check()
    assert len(lists.lists) > 20


def shown(ranked: object) -> list[int]:
    pool, slate = ranked.pool, ranked.slate  # type: ignore[attr-defined]
    keys: list[int] = pool.candidates.items[slate.chosen].tolist()
    return keys


def test_without_the_part_a_title_is_shown_twice() -> None:
    world = small(same_title="off")
    twice = 0
    for n in range(50):
        asked = request("u", request_id=f"r{n}", n=3)
        ranked = world.recommender.rank(asked, None, world.anchors(asked), T0)
        titles = [comparable(world.recommender.catalog.title_of(key)) for key in shown(ranked)]
        twice += len(set(titles)) < 3
    assert twice > 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (STORY, OTHER, True),
        (STORY, STORY + "!", False),
        ("Überall dieselbe", "ÜBERALL dieselbe", True),
    ],
)
def test_titles_have_one_number_when_they_are_the_same(one: str, other: str, same: bool) -> None:
    first, second = numbers_of([one, other]).tolist()
    assert first != 0 != second
    assert (first == second) is same


def test_short_titles_have_none() -> None:
    assert numbers_of(["", "News", "News today"]).tolist() == [0, 0, 0]


def test_the_catalogue_has_the_number_of_the_title_as_it_is() -> None:
    catalog = Catalog()
    key = catalog.put(item(1, title=STORY))
    rows = catalog.find(np.array([key], np.uint64))
    assert catalog.column("title", rows).tolist() == numbers_of([STORY]).tolist()
    catalog.put(item(1, title="Another title now"))
    assert catalog.column("title", rows).tolist() == numbers_of(["Another title now"]).tolist()
    catalog.put(item(1, title="News"))
    assert catalog.column("title", rows).tolist() == [0]
