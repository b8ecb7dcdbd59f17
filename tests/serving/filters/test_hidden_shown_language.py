"""What a user hid, was shown lately, or cannot read."""

from __future__ import annotations

from typing import Any

import numpy as np
from strategies import T0
from worlds import World, busy, item, request

from headrace.models.state import shown as shown_state
from headrace.models.state.shown import ShownState
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.rerank.rules import OFF
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.settings import MINUTE_MS


def seen(user: str, *lists: tuple[list[str], int]) -> Any:
    """Return the row of a user who was shown lists: items and time of each."""
    state = ShownState()
    for offset, (items, ts) in enumerate(lists):
        state.apply(
            hash_many([user]), np.array([len(items)]), hash_many(items), np.array([ts]), np.array([offset])
        )
    row = state.table.row(hash64(user))
    return state.table.data[row : row + 1]


def listed(world: World, user: str, shown: Any, now: int = T0, **changes: Any) -> tuple[list[str], list[str]]:
    asked = request(user, **changes)
    rec = world.recommender
    rec.tick(now)
    reply = rec.answer(asked, world.row(user), world.anchors(asked, now), now, shown).reply
    return [i.item_id for i in reply.items], reply.degraded


def test_what_was_shown_rests_for_ten_minutes_and_then_comes_again() -> None:
    world = busy()
    first, _ = listed(world, "x", None, n=20)
    row = seen("x", (first, T0))
    for later in (0, 10 * MINUTE_MS - 1000):
        names, degraded = listed(world, "x", row, T0 + later, n=20)
        assert not set(names) & set(first)
        assert len(names) == 20
        assert "repeated" not in degraded
    assert set(listed(world, "x", row, T0 + 10 * MINUTE_MS + 1000, n=20)[0]) & set(first)


def test_when_nothing_else_is_left_the_one_shown_longest_ago_comes_back_first() -> None:
    world = World(6)
    row = seen("x", (["i3", "i1"], T0 - 3000), (["i5"], T0 - 2000), (["i3"], T0 - 1000))
    names, degraded = listed(world, "x", row, n=6)
    assert set(names[:3]) == {"i0", "i2", "i4"}
    assert names[3:] == ["i1", "i5", "i3"]
    assert "repeated" in degraded
    names, _ = listed(world, "x", row, n=4)
    assert names[3] == "i1"


def test_shown_before_clicked() -> None:
    world = World(4)
    world.click("x", 0, T0 - 60_000)
    row = seen("x", (["i1"], T0 - 1000))
    assert listed(world, "x", row, n=4)[0][2:] == ["i1", "i0"]


def test_shown_often_without_a_click_rests_for_longer() -> None:
    world = World(30, Policy(rules=OFF, shown_most=3))
    an_hour_ago = T0 - 60 * MINUTE_MS
    row = seen("x", *[(["i7"], an_hour_ago)] * 3, *[(["i8"], an_hour_ago)] * 2)
    names, _ = listed(world, "x", row, n=29)
    assert "i7" not in names
    assert "i8" in names


def test_related_lists_show_what_was_shown_elsewhere() -> None:
    world = busy()
    row = seen("x", ([f"i{n}" for n in range(60)], T0))
    names, degraded = listed(world, "x", row, n=20, surface="related", item_id="i1")
    assert len(names) == 20
    assert "repeated" not in degraded


def test_the_popular_list_rests_too() -> None:
    world = busy()
    rec = world.recommender
    rec.tick(T0)
    asked = request("x", n=10)
    first = [i.item_id for i in rec.popular(asked, T0, "deadline").reply.items]
    again = rec.popular(asked, T0, "deadline", None, seen("x", (first, T0))).reply
    assert not {i.item_id for i in again.items} & set(first)


def test_an_empty_row_rests_nothing() -> None:
    world = busy()
    row = np.full(1, shown_state.BLANK, shown_state.ROW)
    assert listed(world, "x", row) == listed(world, "x", None)


def test_hidden_items_and_creators_are_not_shown_not_even_when_nothing_else_is_left() -> None:
    world = World(20)
    for n in range(20):
        world.click("somebody", n)
    world.click("x", 3, T0 - 1000, kind="hide")
    names, _ = listed(world, "x", None, n=20)
    assert set(names) == {f"i{n}" for n in range(20) if n != 3}
    row = world.row("x")
    row["hidden_creators"][0, 0] = hash64("c2")
    names, _ = listed(world, "x", None, n=20)
    assert set(names) == {f"i{n}" for n in range(20) if n != 3 and n % 7 != 2}


def test_items_in_another_language_than_the_profiles_are_left_out() -> None:
    world = World()
    for n, language in enumerate(("de", "en", "", "pt")):
        world.publish(item(n, language=language))
    world.profile("german", language="de")
    world.profile("silent")
    assert set(world.shown(request("german"))) == {"i0", "i2"}
    assert len(world.shown(request("silent"))) == len(world.shown(request("nobody"))) == 4
    world.recommender = Recommender(Policy(parts={"filter:language": "off"}))
    for n, language in enumerate(("de", "en")):
        world.publish(item(n, language=language))
    assert set(world.shown(request("german"))) == {"i0", "i1"}


def test_items_with_a_blocked_flag_are_not_shown() -> None:
    world = World(5, Policy(rules=OFF, blocked_flags=("spoiler", "gore")))
    world.publish(item(1, flags=["spoiler", "fun"]))
    world.publish(item(2, flags=["fun"]))
    assert set(world.shown(request())) == {"i0", "i2", "i3", "i4"}
    world.publish(item(1))
    assert "i1" in world.shown(request())
