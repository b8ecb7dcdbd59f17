"""The candidate's list beside the one that was shown."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_models import Fixed, online
from strategies import T0
from worlds import World, busy, by_mmr, request

from headrace.models.learning.pointers import Pointers
from headrace.models.outcomes import examples_of
from headrace.serving.answering import Answer
from headrace.serving.policy import Policy

POLICY = Policy(rules=by_mmr(0.3, 1.0), shadow_share=1.0)


def shadowed(candidate: Any, policy: Policy = POLICY, **pointed: Any) -> World:
    world = busy(policy)
    world.recommender.ranker, world.recommender.online = Fixed("item_clicks_total"), online()  # type: ignore[assignment]
    rankers = world.recommender.data.models.rankers
    rankers.candidate = candidate
    rankers.shelf.pointers = Pointers(1, "fixed", "", "shadow", rollout="x", **pointed)
    return world


def named(ranker: Any) -> Any:
    ranker.version = "shadow"
    return ranker


def shadow_of(answer: Answer) -> Any:
    assert answer.impression is not None
    return answer.impression.shadow


def test_a_candidate_of_the_same_scores_has_the_same_slots_where_nothing_was_explored() -> None:
    world = shadowed(named(Fixed("item_clicks_total")))
    explored = matched = 0
    for n in range(40):
        answer = world.answer(request("u1", request_id=f"r{n}", n=5))
        shadow, shown = shadow_of(answer), answer.impression
        assert shown is not None
        assert shadow.ranker == "shadow"
        first = (shown.explored + [True]).index(True)
        assert all(shadow.match[:first]), "until the first random slot the lists are the same"
        assert np.allclose(shadow.value[:first], shown.scores[:first])
        explored += sum(shown.explored)
        matched += sum(shadow.match)
    assert explored > 20
    assert matched > 60  # of 40 lists, about .7 + .7**2 + ... + .7**5 slots each


def test_a_candidate_that_wants_the_opposite_seldom_agrees() -> None:
    world = shadowed(named(Fixed("item_clicks_total", -1.0)))
    shadows = [shadow_of(world.answer(request("u1", request_id=f"r{n}", n=5))) for n in range(20)]
    assert sum(sum(s.match) for s in shadows) < 10
    values = np.mean([s.value for s in shadows])
    assert values < np.mean([world.answer(request("u1", n=5)).impression.scores])  # type: ignore[union-attr]


def test_the_reply_is_the_same_with_a_shadow_and_without() -> None:
    asked = request("u1", n=10)
    alone = shadowed(None).answer(asked)
    beside = shadowed(named(Fixed("item_clicks_total", -1.0))).answer(asked)
    assert [i.item_id for i in alone.reply.items] == [i.item_id for i in beside.reply.items]
    assert shadow_of(alone) is None
    assert shadow_of(beside) is not None
    assert [i.item_id for i in beside.reply.items] == beside.impression.item_ids  # type: ignore[union-attr]


def test_only_a_share_of_the_lists_has_a_shadow() -> None:
    world = shadowed(named(Fixed("item_clicks_total")), replace(POLICY, shadow_share=0.25))
    found = [shadow_of(world.answer(request("u1", request_id=f"r{n}", n=2))) for n in range(200)]
    assert sum(s is not None for s in found) == pytest.approx(50, abs=20)


def test_of_several_candidates_each_list_has_one_and_the_cost_is_that_of_one() -> None:
    calls = dict.fromkeys(("shadow", "two", "three"), 0)

    class Counting(Fixed):
        def predict(self, x: Any) -> Any:
            calls[self.version] += 1
            return super().predict(x)

    def made(version: str) -> Any:
        one = Counting("item_clicks_total")
        one.version = version
        return one

    world = shadowed(made("shadow"), replace(POLICY, shadow_share=0.5))
    world.recommender.data.models.rankers.others = [made("two"), made("three")]
    found = [shadow_of(world.answer(request("u1", request_id=f"r{n}", n=2))) for n in range(900)]
    told = Counter(s.ranker for s in found if s is not None)
    assert told == calls
    assert set(told) == {"shadow", "two", "three"}
    assert all(count == pytest.approx(150, abs=45) for count in told.values())


def test_a_list_is_answered_before_its_shadow_is_made() -> None:
    class Late(Fixed):
        def predict(self, x: Any) -> Any:
            raise AssertionError("the reply waits for it")

    answer = shadowed(named(Late("item_clicks_total"))).answer(request("u1", n=3))
    assert len(answer.reply.items) == 3, "whoever sends it has it before anybody asks for the impression"


def test_the_candidates_own_lists_have_no_shadow() -> None:
    world = shadowed(named(Fixed("item_clicks_total", -1.0)), share=50)
    answers = [world.answer(request(f"u{n}", n=2)) for n in range(40)]
    own = [a for a in answers if a.reply.model and a.reply.model.variant == "candidate"]
    assert 5 < len(own) < 35
    assert all(shadow_of(a) is None for a in own)
    assert all(shadow_of(a) is not None for a in answers if a not in own)


def test_a_shadow_that_fails_costs_no_impression(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Fixed):
        def predict(self, x: Any) -> Any:
            raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        answer = shadowed(named(Broken("item_clicks_total"))).answer(request("u1", n=3))
        assert shadow_of(answer) is None
    assert len(answer.impression.item_ids) == 3  # type: ignore[union-attr]
    assert "shadow of request" in caplog.text


def test_each_example_has_its_slot_of_the_shadow() -> None:
    shown = shadowed(named(Fixed("item_clicks_total"))).answer(request("u1", n=4), T0).impression
    assert shown is not None
    assert shown.shadow is not None
    told = [(e.shadow.ranker, e.shadow.match, e.shadow.value) for e in examples_of(shown, {}) if e.shadow]
    assert told == [("shadow", *pair) for pair in zip(shown.shadow.match, shown.shadow.value, strict=True)]
    shown.shadow.match.pop()
    assert examples_of(shown, {})[-1].shadow is None
