from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from small_models import online
from strategies import T0
from worlds import World, busy, by_mmr, here, request

from headrace.models.features.spec import ONLINE, POSITION, SPEC
from headrace.models.learning.ranker import Ranker
from headrace.serving.policy import Policy, UnshownPolicy
from headrace.streams.messages.schemas import Impression, RecReply


def features(impression: Impression) -> Any:
    return np.frombuffer(impression.features, "<f4").reshape(-1, len(SPEC))


@pytest.mark.parametrize("policy", [Policy(rules=by_mmr(0, 1)), Policy(rules=by_mmr(0.3, 0.7))])
@pytest.mark.parametrize("user", ["u3", "nobody"])
def test_the_log_holds_exactly_what_the_ranker_saw(policy: Policy, user: str, trained: Ranker) -> None:
    world = busy(policy)
    world.recommender.ranker, world.recommender.online = trained, online()
    asked = request(user, n=15, context=here("BR"))
    ranked = world.rank(asked)
    answer = world.answer(asked)
    impression, reply = answer.impression, answer.reply
    assert impression is not None
    rows = features(impression)
    assert len(rows) == len(reply.items) == 15
    assert rows[:, POSITION].tolist() == list(range(15))
    as_scored = rows.copy()
    as_scored[:, POSITION] = 0
    np.testing.assert_array_equal(as_scored, ranked.features[ranked.slate.chosen])
    np.testing.assert_array_equal(trained.predict(as_scored), impression.scores)
    np.testing.assert_allclose(online().predict(as_scored), rows[:, ONLINE], atol=1e-6)
    assert [i.item_id for i in reply.items] == impression.item_ids
    assert [i.explored for i in reply.items] == impression.explored
    assert [i.propensity for i in reply.items] == pytest.approx(impression.propensities)
    assert [i.sources for i in reply.items] == impression.sources
    assert (impression.spec, impression.ranker, impression.online) == (SPEC.version, "t1", "o1")
    assert (impression.ts, impression.user_id, impression.country) == (T0, user, "BR")
    assert reply.degraded == []
    assert (reply.model.ranker, reply.model.online) == ("t1", "o1")  # type: ignore[union-attr]
    assert (ranked.features[:, POSITION] == 0).all(), "logging the positions changed what was ranked"
    msgspec.json.decode(msgspec.json.encode(impression), type=Impression)
    msgspec.json.decode(msgspec.json.encode(reply), type=RecReply)


def sampling(share: float, next_: int = 5, by_chance: int = 10) -> World:
    return busy(Policy(rules=by_mmr(0, 1), unshown=UnshownPolicy(share, next_, by_chance)))


def test_what_was_not_shown_is_logged_as_it_was_scored(trained: Ranker) -> None:
    world = sampling(1)
    world.recommender.ranker = trained
    asked = request("u3", n=15)
    ranked, impression = world.rank(asked), world.answer(asked).impression
    assert impression is not None
    rest = impression.unshown
    assert rest is not None
    left = len(ranked.score) - 15
    assert rest.probabilities == [1.0] * 5 + [10 / (left - 5)] * 10
    assert len({*rest.item_ids, *impression.item_ids}) == 30, "none twice, and none that was shown"
    x = np.frombuffer(rest.features, "<f4").reshape(-1, len(SPEC))
    np.testing.assert_array_equal(trained.predict(x), rest.scores)
    assert (x[:, POSITION] == 0).all()
    best = np.sort(np.delete(ranked.score, ranked.slate.chosen))[::-1]
    assert rest.scores[:5] == best[:5].tolist(), "those that would have been next"
    assert max(rest.scores[5:]) <= best[4]
    again = world.answer(asked).impression
    assert again is not None
    assert again.unshown == rest, "the request id decides"
    msgspec.json.decode(msgspec.json.encode(impression), type=Impression)


def test_the_share_of_the_requests_and_every_candidate_are_drawn_evenly() -> None:
    world, chosen, drawn = sampling(0.25, 0, 10), 0, Counter[str]()
    for k in range(400):
        impression = world.answer(request("u3", n=15, request_id=f"r{k}")).impression
        assert impression is not None
        if impression.unshown is not None:
            chosen += 1
            drawn.update(impression.unshown.item_ids)
    assert 70 < chosen < 130
    each = 10 * chosen / len(drawn)
    assert all(0.2 * each < n < 2.5 * each for n in drawn.values())


def test_with_no_candidate_left_there_is_no_sample() -> None:
    world = World(10, policy=Policy(unshown=UnshownPolicy(1, 5, 5)))
    impression = world.answer(request(n=50)).impression
    assert impression is not None
    assert impression.unshown is None
    none = sampling(0).answer(request("u3", n=15)).impression
    assert none is not None
    assert none.unshown is None


def test_the_cheapest_list() -> None:
    world = World(50)
    for n in range(10):
        for k in range(10 - n):
            world.click(f"u{k}", n, T0)
    world.recommender.tick(T0)
    answer = world.recommender.popular(request(n=30, exclude=["i2"], explain=True), T0, "deadline")
    ids = [i.item_id for i in answer.reply.items]
    assert ids[:5] == ["i0", "i1", "i3", "i4", "i5"]
    assert len(set(ids)) == 30
    assert answer.reply.degraded == ["deadline"]
    assert all(i.why and i.sources and i.propensity == 1 for i in answer.reply.items)
    assert answer.impression is None, "a list nobody was ranked for teaches nothing"
    related = world.recommender.popular(request(surface="related", item_id="i0"), T0, "deadline")
    assert "i0" not in [i.item_id for i in related.reply.items]
    assert World().recommender.popular(request(), T0, "deadline").reply.items == []
