from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from small_models import Fixed, online, online_of_all
from worlds import World, busy, item, request

from headrace.models.features.spec import ONLINE, SPEC
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.objectives import OBJECTIVES
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.serving.scorers.blend import blend


def test_what_is_missing_is_said(trained: Ranker) -> None:
    world = busy()
    assert world.answer(request()).reply.degraded == ["ranker", "online"]
    world.recommender.online = online()
    assert world.answer(request()).reply.degraded == ["ranker"]
    world.recommender.ranker = trained
    assert world.answer(request()).reply.degraded == []
    world.recommender.online = None
    assert world.answer(request()).reply.degraded == ["online"]


def test_without_a_ranker_a_list_is_ordered_by_all_objectives_of_the_online_model() -> None:
    world, model = busy(), online_of_all()
    world.recommender.online = model
    answer = world.answer(request())
    assert answer.ranked is not None
    ranked = answer.ranked
    found = model.foreseen(ranked.features, ranked.ids)
    np.testing.assert_array_equal(ranked.features[:, ONLINE], found["click"])
    want = 0.3 * found["click"] + 0.5 * found["long_view"] + 0.2 * found["like"]
    np.testing.assert_allclose(ranked.score, want, rtol=1e-6)
    for j, place in enumerate(ranked.slate.chosen.tolist()):
        told = answer.reply.items[j].objectives
        assert told == {name: pytest.approx(each[place], abs=1e-6) for name, each in found.items()}
    world.recommender.online = dataclasses.replace(model, shares={})
    ranked, slots = world.answer(request()).ranked, world.answer(request()).reply.items
    assert ranked is not None
    np.testing.assert_array_equal(ranked.score, ranked.features[:, ONLINE].astype(np.float64))
    assert all(slot.objectives == {"click": slot.score} for slot in slots)


def test_a_ranker_reads_the_click_probability_only_and_one_that_fails_is_stood_in_for_by_all_objectives(
    trained: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, model = busy(), online_of_all()
    world.recommender.online, world.recommender.ranker = model, trained
    asked = [0]
    foreseen = OnlineWeights.foreseen

    def counted(*args: Any) -> Any:
        asked[0] += 1
        return foreseen(*args)

    monkeypatch.setattr(OnlineWeights, "foreseen", counted)
    answer = world.answer(request())
    assert answer.ranked is not None
    assert answer.ranked.scorer is not None
    assert (answer.ranked.scorer.name, asked) == ("ranker", [0])
    click = model.predict(answer.ranked.features, answer.ranked.ids)
    np.testing.assert_array_equal(answer.ranked.features[:, ONLINE], click)
    broken = Fixed("user_clicks_5m")
    monkeypatch.setattr(broken, "predict", lambda x: x[:, 0] * np.nan)
    world.recommender.ranker = broken  # type: ignore[assignment]
    answer = world.answer(request())
    assert "scorer:ranker" in answer.reply.degraded
    assert asked == [1]
    assert all(slot.objectives.keys() == set(OBJECTIVES) for slot in answer.reply.items)


@pytest.mark.parametrize("shift", [-10.0, 0.0])
def test_a_boost_lifts_whatever_the_sign_of_scores(shift: float) -> None:
    world = World()
    for n in range(20):
        world.publish(item(n, boost=2.0 if n == 7 else 0.5 if n == 3 else 1.0))
    world.recommender.ranker = Fixed("user_clicks_5m", shift=shift or 1.0)  # type: ignore[assignment]
    ids = world.shown(request())
    assert ids[0] == "i7"
    assert ids[-1] == "i3"


def test_a_boost_of_zero_goes_last_and_scores_stay_finite() -> None:
    for shift in (-3.0, 3.0):
        world = World()
        for n in range(5):
            world.publish(item(n, boost=0.0 if n == 2 else 1.0))
        world.recommender.ranker = Fixed("user_clicks_5m", shift=shift)  # type: ignore[assignment]
        reply = world.answer(request()).reply
        assert reply.items[-1].item_id == "i2"
        assert all(np.isfinite(i.score) for i in reply.items)


def test_the_blend_is_finite_and_of_any_length() -> None:
    for n in (0, 1, 5):
        out = blend(np.zeros((n, len(SPEC)), np.float32))
        assert out.shape == (n,)
        assert np.isfinite(out).all()


def test_the_ranker_is_used_with_its_own_leaf_deltas_and_the_reply_names_them(trained: Ranker) -> None:
    assert trained.trees is not None
    n = len(trained.trees.leaves)
    world = busy()
    world.recommender.ranker = trained
    plain = world.answer(request()).reply
    assert plain.model is not None
    assert plain.model.leaves == ""
    found = LeafDeltas("t1", np.full(n, 0.1, np.float32), np.ones(n, np.float32), True, version="d1")

    def told() -> tuple[str, float]:
        reply = world.answer(request()).reply
        assert reply.model is not None
        return reply.model.leaves, max(item.score for item in reply.items)

    before = told()[1]
    world.recommender.leaves = found
    assert told()[0] == "d1"
    logit = np.log(before / (1 - before)) + 0.1 * trained.boosters[0].num_trees()
    assert told()[1] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    world.recommender.ranker = Fixed("user_clicks_5m")  # type: ignore[assignment]
    assert told()[0] == "", "deltas of another ranker"
    world.recommender.ranker = trained
    assert told()[0] == "d1"
    world.recommender.leaves = dataclasses.replace(found, used=False)
    assert told()[0] == ""
    world.recommender.policy = dataclasses.replace(world.recommender.policy, leaf_steps=False)
    world.recommender.leaves = found
    assert told()[0] == ""
