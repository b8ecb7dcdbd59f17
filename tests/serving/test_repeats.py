"""Too few items besides those the user clicked lately: the longest ago clicked come again."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from strategies import T0
from worlds import World, by_mmr, here, item, request

from headrace.models.features.spec import SPEC
from headrace.serving.policy import Policy
from headrace.serving.sources.catalog import NewestOfAll
from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import HOUR_MS, Settings

FILL = NewestOfAll.size
EARLIER = T0 - HOUR_MS


def listed(reply: RecReply) -> list[str]:
    return [i.item_id for i in reply.items]


def both(world: World, user: str = "me", **changes: object) -> list[RecReply]:
    """Return the ranked and the popular answer to the same request."""
    asked = request(user, **changes)
    ranked = world.answer(asked).reply
    return [ranked, world.recommender.popular(asked, T0, "deadline", world.row(user)).reply]


def test_everything_clicked_lately_comes_again_the_longest_ago_clicked_first() -> None:
    world = World(6)
    world.session("me", [3, 1, 5, 0, 4, 2], EARLIER)
    for reply in both(world, n=20):
        assert listed(reply) == ["i3", "i1", "i5", "i0", "i4", "i2"]
        assert "repeated" in reply.degraded
        assert "candidates" not in reply.degraded
        assert all("repeated" in i.sources for i in reply.items)
    for reply in both(world, n=2):
        assert listed(reply) == ["i3", "i1"]


def test_an_item_clicked_twice_counts_by_its_last_click() -> None:
    world = World(3)
    world.session("me", [0, 1, 2, 0], EARLIER)
    for reply in both(world):
        assert listed(reply) == ["i1", "i2", "i0"]


def test_what_is_new_to_the_user_comes_first_and_the_rest_fills_the_list() -> None:
    world = World(8)
    world.session("me", [2, 0, 5, 1], EARLIER)
    for n in range(3):  # popular, and still behind what is new
        world.session(f"u{n}", [0, 1, 2], EARLIER)
    for reply in both(world, n=6):
        assert set(listed(reply)[:4]) == {"i3", "i4", "i6", "i7"}
        assert listed(reply)[4:] == ["i2", "i0"]
        assert ["repeated" in i.sources for i in reply.items] == [False] * 4 + [True] * 2
        assert "repeated" in reply.degraded
    for reply in both(world, n=4):
        assert set(listed(reply)) == {"i3", "i4", "i6", "i7"}
        assert "repeated" not in reply.degraded


def test_excluded_open_and_forbidden_items_do_not_come_again() -> None:
    world = World(4)
    world.publish(item(4, countries=["BR"]))
    world.publish(item(5, min_age=18))
    world.session("me", [0, 1, 2, 3, 4, 5], EARLIER)
    world.withdraw("i3")
    asked = {"exclude": ["i0"], "item_id": "i1", "surface": "related", "context": here("US")}
    for reply in both(world, **asked):
        assert listed(reply) == ["i2"]
    for reply in both(world, **{**asked, "exclude": ["i0", "i2"]}):
        assert listed(reply) == []
        assert "candidates" in reply.degraded
        assert "repeated" not in reply.degraded


def test_a_click_three_hours_ago_is_no_repeat() -> None:
    world = World(3)
    world.click("me", 1, T0 - 3 * HOUR_MS)
    world.click("me", 0, T0 - 3 * HOUR_MS + 1)
    for reply in both(world):
        assert set(listed(reply)[:2]) == {"i1", "i2"}
        assert listed(reply)[2:] == ["i0"]


def test_how_long_a_clicked_item_rests_is_a_setting() -> None:
    world = World(3, Policy.of(Settings(clicked_rest_s=3600)))
    world.click("me", 1, T0 - HOUR_MS)
    world.click("me", 0, T0 - HOUR_MS + 1)
    for reply in both(world):
        assert set(listed(reply)[:2]) == {"i1", "i2"}
        assert listed(reply)[2:] == ["i0"]


@pytest.mark.parametrize("policy", [Policy(rules=by_mmr(0.9, 0.5)), Policy()])
def test_repeats_are_certain_and_logged_with_their_features(policy: Policy) -> None:
    world = World(10, policy)
    world.session("me", [7, 3, 9], EARLIER)
    answer = world.answer(request("me", n=9))
    assert answer.impression is not None
    assert listed(answer.reply)[7:] == ["i7", "i3"] == answer.impression.item_ids[7:]
    assert answer.impression.propensities[7:] == [1.0, 1.0]
    assert answer.impression.explored[7:] == [False, False]
    features = np.frombuffer(answer.impression.features, "<f4").reshape(9, len(SPEC))
    assert features[:, SPEC.index("position")].tolist() == list(range(9))
    msgspec.json.encode(answer.reply)


def test_why_a_repeated_item_is_shown() -> None:
    world = World(1)
    world.click("me", 0, EARLIER)
    (shown,) = world.answer(request("me", explain=True)).reply.items
    assert "you opened it before" in (shown.why or [])


def test_a_long_exclude_does_not_hide_the_rest_of_the_catalogue() -> None:
    world = World()
    for n in range(FILL + 200):
        world.publish(item(n, published_ts=T0 - n * 1000))
    newest = [f"i{n}" for n in range(FILL + 190)]
    for reply in both(world, n=20, exclude=newest):
        assert set(listed(reply)) == {f"i{n}" for n in range(FILL + 190, FILL + 200)}
