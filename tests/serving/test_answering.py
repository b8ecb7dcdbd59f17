from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from small_models import online
from strategies import T0
from worlds import World, busy, by_mmr, here, request

from headrace.models.features.spec import ONLINE, POSITION, SPEC
from headrace.models.learning.ranker import Ranker
from headrace.serving.policy import Policy
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
