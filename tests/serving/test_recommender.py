from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import online
from strategies import T0
from worlds import World, busy, by_mmr, here, item, request

from headrace.models.learning.ranker import Ranker
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, HOUR_MS


def test_somebody_unknown_gets_what_is_popular() -> None:
    world = World(100)
    for n in range(30):
        for k in range(30 - n):
            world.click(f"u{k}", n, T0)
    answer = world.answer(request("nobody", n=10))
    assert [i.item_id for i in answer.reply.items] == [f"i{n}" for n in range(10)]
    assert all("trending" in i.sources for i in answer.reply.items)
    assert answer.reply.degraded == ["ranker", "online"]
    assert len(world.users.table) == 30, "asking must not make a user"


def test_an_empty_catalogue_gives_an_empty_list_and_says_so() -> None:
    answer = World().answer(request())
    assert answer.reply.items == []
    assert "candidates" in answer.reply.degraded
    assert answer.reply.error is None
    assert answer.impression is None


def test_everything_excluded_is_an_empty_list_too(trained: Ranker) -> None:
    world = World(3)
    world.recommender.ranker, world.recommender.online = trained, online()
    answer = world.answer(request(exclude=["i0", "i1", "i2"]))
    assert answer.reply.items == []
    assert answer.reply.degraded == ["candidates"]


def test_what_must_not_be_shown_is_never_shown() -> None:
    world = busy(Policy(rules=by_mmr(0.5, 0.5)))
    for n, fields in enumerate(
        (
            {"countries": ["BR"]},
            {"blocked_countries": ["US"]},
            {"min_age": 18},
            {"published_ts": T0 + 60_000},
        )
    ):
        world.publish(item(n, **fields))
    world.withdraw("i4")
    world.profile("kid", country="US", age=12)
    world.profile("adult", country="BR", age=30)
    for user, country, forbidden in (
        ("nobody", "", {"i0", "i1", "i2"}),
        ("nobody", "US", {"i0", "i1", "i2"}),
        ("kid", "", {"i0", "i1", "i2"}),
        ("kid", "BR", {"i2"}),
        ("adult", "", set()),
        ("adult", "US", {"i0", "i1"}),
    ):
        for n in range(5):
            asked = request(
                user, request_id=f"r{n}", n=100, context=here(country), exclude=["i10", "i11", "no such"]
            )
            shown = set(world.shown(asked))
            assert not shown & (forbidden | {"i3", "i4", "i10", "i11"})
            if user == "adult" and not country:
                assert {"i0", "i1", "i2"} <= shown


def test_clicked_lately_is_not_shown_again_until_three_hours_later() -> None:
    world = busy()
    world.click("me", 5, T0)
    for now in (T0, T0 + 3 * HOUR_MS - 1):
        shown = world.shown(request("me", n=59), now)
        assert (len(shown), "i5" in shown) == (59, False)
    answer = world.answer(request("me", n=60), T0 + 3 * HOUR_MS)
    assert "i5" in [i.item_id for i in answer.reply.items]
    assert "repeated" not in answer.reply.degraded


def test_related_lists_are_about_the_item() -> None:
    world = busy()
    for n in range(5):
        world.session(f"v{n}", [40, 41], T0 - 3 * HOUR_MS)
    world.session("me", [1, 2, 3])
    asked = request("me", surface="related", item_id="i40", n=10)
    assert world.recommender.anchors_for(asked, world.row("me"), T0) == [hash64("i40")]
    answer = world.answer(asked)
    ids = [i.item_id for i in answer.reply.items]
    assert ids[0] == "i41"
    assert "i40" not in ids
    assert answer.impression is not None
    assert answer.impression.surface == "related"
    nobody = request("nobody", surface="related", item_id="i40", n=10)
    assert world.shown(nobody)[0] == "i41"
    assert len(world.shown(request(surface="related", item_id="no such item"))) == 20


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=20), st.sampled_from(["u1", "nobody"]))
def test_the_same_request_gets_the_same_list(exploring: list[World], request_id: str, user: str) -> None:
    asked = request(user, request_id=request_id, n=10)
    a, b = (world.answer(asked) for world in exploring)
    assert (a.reply, a.impression) == (b.reply, b.impression)


@pytest.fixture(scope="module")
def exploring() -> list[World]:
    return [busy(Policy(rules=by_mmr(0.5, 0.8)), items=20) for _ in range(2)]


def test_another_request_explores_otherwise() -> None:
    world = busy(Policy(rules=by_mmr(0.5, 0.9)))
    assert len({tuple(world.shown(request(request_id=f"r{n}"))) for n in range(10)}) > 5


def test_five_hundred() -> None:
    world = World(700)
    world.session("me", list(range(20)))
    for policy in (Policy(), Policy(candidates=50), Policy(rules=by_mmr(0, 1))):
        world.recommender.policy = policy
        for user in ("me", "nobody"):
            ids = world.shown(request(user, n=500))
            assert len(ids) == len(set(ids)) == 500
    assert len(world.shown(request(n=1))) == 1


def test_answering_changes_no_state() -> None:
    world = busy()
    tables = [
        world.users.table,
        world.recommender.catalog.table,
        world.recommender.stats.table,
        world.recommender.stats.countries,
        world.neighbours.table,
    ]
    before = [(len(t), t.data.tobytes()) for t in tables]
    for user in ("u1", "nobody"):
        world.answer(request(user, explain=True, context=here("XX")))
    assert before == [(len(t), t.data.tobytes()) for t in tables]


def test_a_user_row_from_the_store_cannot_be_written_to_and_need_not_be() -> None:
    world = busy()
    frozen = np.frombuffer(world.row("u1").tobytes(), world.users.table.dtype)
    asked = request("u1", explain=True)
    world.recommender.tick(T0)
    a, b = world.recommender.answer(asked, frozen, world.anchors(asked), T0), world.answer(asked)
    assert (a.reply, a.impression) == (b.reply, b.impression)


def test_missing_neighbours_lower_the_quality_only() -> None:
    world = busy()
    asked = request("u1")
    items = world.recommender.anchors_for(asked, world.row("u1"), T0)
    answer = world.recommender.answer(asked, world.row("u1"), Anchors(items, None), T0)
    assert len(answer.reply.items) == 20


def test_items_without_any_content() -> None:
    world = World()
    for n in range(30):
        world.publish(item(n, title="", category="", creator_id="", tags=[]))
    world.session("me", [1, 2])
    world.recommender.policy = Policy()
    assert len(world.shown(request("me"))) == 20


def test_times_far_from_the_events() -> None:
    world = busy()
    for now in (0, T0 - 40 * DAY_MS, T0 + 400 * DAY_MS):
        assert isinstance(world.shown(request("u1"), now), list)
