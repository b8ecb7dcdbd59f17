"""A caller's own list is ranked: these items and no others, known to the catalogue or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mapped_catalogs import base_of, write_snapshot
from strategies import T0
from worlds import busy, item, request

from headrace.models.features.spec import SPEC
from headrace.models.learning.ranker import Ranker
from headrace.models.state.shown import ShownState
from headrace.serving.policy import Policy, UnshownPolicy
from headrace.serving.scorers.blend import ByBlend
from headrace.serving.skew import compare
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import AnyNone, Filters, Impression

MIXED = ["i7", "stranger", "i3", "i50", "somebody else", "i12"]


def ids(answer: Any) -> list[str]:
    return [i.item_id for i in answer.reply.items]


@pytest.mark.parametrize("with_ranker", [False, True])
def test_the_list_has_these_items_and_no_others(with_ranker: bool, trained: Ranker) -> None:
    world = busy()
    if with_ranker:
        world.recommender.ranker = trained
    asked = request("u1", candidates=[*MIXED, "i7"], explain=True)
    calls = world.recommender.pipeline.counts()
    before = {name: c.calls for name, c in calls.items() if name.startswith("source:")}
    answer = world.answer(asked)
    assert sorted(ids(answer)) == sorted(MIXED)
    assert {tuple(set(i.sources) - {"repeated"}) for i in answer.reply.items} == {("given",)}
    assert all(i.why for i in answer.reply.items)
    assert {n: c.calls for n, c in world.recommender.pipeline.counts().items() if n in before} == before
    assert ids(world.answer(asked)) == ids(answer), "the same request gets the same list"


def test_the_best_are_taken_when_fewer_are_asked_for() -> None:
    world = busy()
    whole = ids(world.answer(request("stranger", candidates=MIXED)))
    assert ids(world.answer(request("stranger", candidates=MIXED, n=3))) == whole[:3]
    assert ids(world.answer(request("stranger", candidates=MIXED)))[:4] != MIXED[:4], "it is ranked"


def test_what_the_log_says_is_what_was_served(trained: Ranker) -> None:
    world = busy(Policy(unshown=UnshownPolicy(1.0, 1, 2)))
    world.recommender.ranker = trained
    answer = world.answer(request("x", candidates=MIXED, n=3))
    shown = answer.impression
    assert shown is not None
    assert answer.ranked is not None
    assert shown.item_ids == ids(answer)
    assert shown.unshown is not None
    assert set(shown.item_ids) | set(shown.unshown.item_ids) == set(MIXED)
    again = msgspec.json.decode(msgspec.json.encode(shown), type=Impression)
    wrong = compare(answer.ranked, again)
    assert not any(w.any() for w in wrong.values())
    assert "score" in wrong


def test_an_unknown_item_has_the_features_of_no_item() -> None:
    ranked = busy().rank(request("u1", candidates=MIXED))
    keys = ranked.pool.candidates.items.tolist()
    row = ranked.features[keys.index(int(hash_many(["stranger"])[0]))]
    for name in ("item_age_h", "item_idle_min"):
        assert row[SPEC.index(name)] == -1
    for name in ("item_clicks_24h", "item_clicks_total", "vector_user", "category_affinity", "item_duration"):
        assert row[SPEC.index(name)] == 0


def test_clicks_of_an_unknown_item_count() -> None:
    world = busy()
    for _ in range(50):
        world.click("crowd", "somebody else", T0 - 1000, "BR")
    assert ids(world.answer(request("x", candidates=MIXED)))[0] == "somebody else"


def test_equal_items_keep_the_order_of_the_caller() -> None:
    strangers = [f"s{n}" for n in range(60)]
    assert ids(busy().answer(request("x", candidates=strangers, n=60))) == strangers
    back = strangers[::-1]
    assert ids(busy().answer(request("x", candidates=back, n=7))) == back[:7]


def test_the_order_of_the_caller_is_the_list_when_nothing_can_be_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(self: ByBlend, features: Any) -> Any:
        raise RuntimeError("no score")

    world = busy()
    world.click("crowd", "i3", T0)
    late = world.recommender.popular(request("x", candidates=MIXED, n=4), T0, "deadline")
    assert (ids(late), late.impression) == (MIXED[:4], None)
    assert {tuple(i.sources) for i in late.reply.items} == {("given",)}
    monkeypatch.setattr(ByBlend, "score", fails)
    assert ids(world.answer(request("x", candidates=MIXED))) == MIXED


def test_rules_hold_for_what_is_known_and_withdrawn_items_are_left_out() -> None:
    world = busy()
    for n, fields in enumerate(
        ({"min_age": 18}, {"countries": ["FR"]}, {"published_ts": T0 + 1}, {"language": "xx"}), 100
    ):
        world.publish(item(n, **fields))
    world.withdraw("i3")
    world.profile("u", language="en")
    asked = [*MIXED, *(f"i{n}" for n in range(100, 104))]
    assert set(world.shown(request("u", candidates=asked))) == set(MIXED) - {"i3"}
    world.publish(item(3))
    assert "i3" in world.shown(request("u", candidates=asked))


def test_what_the_caller_and_the_user_do_not_want_is_left_out_also_when_unknown() -> None:
    world = busy()
    world.click("u", "stranger", T0, kind="hide")
    shown = world.shown(request("u", candidates=MIXED, exclude=["i7"], seen=["somebody else"]))
    assert set(shown) == {"i3", "i50", "i12"}


def test_filters_hold_for_what_is_known() -> None:
    asked = request("x", candidates=MIXED, filters=Filters(category=AnyNone(["film"])))  # n % 4 == 3
    assert set(busy().shown(asked)) == {"i7", "i3", "stranger", "somebody else"}


def test_what_rests_comes_last_and_nothing_else_comes_back() -> None:
    world, shown = busy(), ShownState()
    rest = hash_many(["i7", "stranger", "i20"])
    shown.apply(hash_many(["x"]), np.array([3]), rest, np.array([T0]), np.array([0]))
    asked = request("x", candidates=MIXED)
    world.recommender.tick(T0)
    row = shown.table.data[:1]
    reply = world.recommender.answer(asked, None, world.anchors(asked), T0, row).reply
    assert sorted(i.item_id for i in reply.items[:4]) == sorted(set(MIXED) - {"i7", "stranger"})
    assert {i.item_id for i in reply.items[4:]} == {"i7", "stranger"}
    assert all(i.sources == ["repeated", "given"] for i in reply.items[4:])
    assert "repeated" in reply.degraded


def test_a_catalogue_in_files(tmp_path: Path) -> None:
    world = busy()
    write_snapshot(tmp_path, [item(n) for n in range(60)], {0: 60})
    catalog = world.recommender.catalog
    catalog.begin_swap()
    catalog.swap(base_of(tmp_path))
    world.withdraw("i50")
    assert set(world.shown(request("x", candidates=MIXED))) == set(MIXED) - {"i50"}


def test_five_hundred_items_are_ranked_whatever_the_settings_say() -> None:
    many = [f"i{n}" for n in range(60)] + [f"s{n}" for n in range(440)]
    world = busy(Policy(candidates=50))
    assert sorted(world.shown(request("x", candidates=many, n=500))) == sorted(many)
