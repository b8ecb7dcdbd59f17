from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import T0
from worlds import World, here, item, request

from headrace.models.features.spec import ONLINE, ONLINE_NAMES, POSITION, SPEC
from headrace.models.learning import ranker
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.serving.context import ANCHORS
from headrace.serving.policy import Policy
from headrace.serving.ranking import blend
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, RecReply
from headrace.streams.settings import DAY_MS, HOUR_MS


def online(seed: int = 0) -> OnlineWeights:
    n = len(ONLINE_NAMES)
    weights = np.random.default_rng(seed).standard_normal(n).astype(np.float32) / 9
    return OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), weights, -1.0, "o1")


@pytest.fixture(scope="module")
def trained() -> Ranker:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, len(SPEC))).astype(np.float32)
    y = (x[:, 4] + x[:, ONLINE] > 0).astype(np.float32)
    return Ranker(ranker.train(x, y, RankerParams(trees=5, leaves=7)), SPEC.names, "t1")


class Fixed:
    """A ranker that scores candidates by a column, times a factor."""

    version = "fixed"

    def __init__(self, name: str, factor: float = 1.0, shift: float = 0.0) -> None:
        self.column, self.factor, self.shift = SPEC.index(name), factor, shift

    def predict(self, x: Any) -> Any:
        return x[:, self.column].astype(np.float64) * self.factor + self.shift


def busy(policy: Policy | None = None, items: int = 60) -> World:
    world = World(items, policy)
    for n in range(80):
        world.session(
            f"u{n % 20}", [n % items, (n * 7) % items], T0 - 60_000 - n * 2000, "BR" if n % 2 else "US"
        )
    return world


def features(impression: Impression) -> Any:
    return np.frombuffer(impression.features, "<f4").reshape(-1, len(SPEC))


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
    world = busy(Policy(epsilon=0.5, mmr_lambda=0.5))
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


def test_clicked_lately_is_not_shown_again_until_it_is_a_day_old() -> None:
    world = busy()
    world.click("me", 5, T0)
    assert "i5" not in world.shown(request("me", n=100))
    assert "i5" not in world.shown(request("me", n=100), T0 + DAY_MS - 1)
    assert "i5" in world.shown(request("me", n=100), T0 + DAY_MS)


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


def test_anchors() -> None:
    world = World(60)
    assert world.recommender.anchors_for(request("nobody"), None, T0) == []
    world.session("me", [1, 2, 1, 3])
    at = T0 + 5000
    me = world.row("me")
    assert world.recommender.anchors_for(request("me"), me, at) == [hash64(f"i{n}") for n in (3, 1, 2)]
    home = request("me", item_id="i9")
    assert world.recommender.anchors_for(home, me, at)[:2] == [hash64("i9"), hash64("i3")]
    later = world.recommender.anchors_for(request("me"), me, T0 + 10 * HOUR_MS)
    assert later == [hash64(f"i{n}") for n in (3, 1, 2)], "a new session starts from where the last one ended"
    world.session("long", list(range(30)))
    assert len(world.recommender.anchors_for(request("long"), world.row("long"), at)) == ANCHORS


@pytest.mark.parametrize("policy", [Policy(epsilon=0, mmr_lambda=1), Policy(epsilon=0.3, mmr_lambda=0.7)])
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


def test_what_is_missing_is_said(trained: Ranker) -> None:
    world = busy()
    assert world.answer(request()).reply.degraded == ["ranker", "online"]
    world.recommender.online = online()
    assert world.answer(request()).reply.degraded == ["ranker"]
    world.recommender.ranker = trained
    assert world.answer(request()).reply.degraded == []
    world.recommender.online = None
    assert world.answer(request()).reply.degraded == ["online"]


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=20), st.sampled_from(["u1", "nobody"]))
def test_the_same_request_gets_the_same_list(exploring: list[World], request_id: str, user: str) -> None:
    asked = request(user, request_id=request_id, n=10)
    a, b = (world.answer(asked) for world in exploring)
    assert a == b


@pytest.fixture(scope="module")
def exploring() -> list[World]:
    return [busy(Policy(epsilon=0.5, mmr_lambda=0.8), items=20) for _ in range(2)]


def test_another_request_explores_otherwise() -> None:
    world = busy(Policy(epsilon=0.5))
    assert len({tuple(world.shown(request(request_id=f"r{n}"))) for n in range(10)}) > 5


def test_five_hundred() -> None:
    world = World(700)
    world.session("me", list(range(20)))
    for policy in (Policy(), Policy(candidates=50), Policy(epsilon=0, mmr_lambda=1)):
        world.recommender.policy = policy
        for user in ("me", "nobody"):
            ids = world.shown(request(user, n=500))
            assert len(ids) == len(set(ids)) == 500
    assert len(world.shown(request(n=1))) == 1


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


def test_the_country_is_that_of_the_request_before_that_of_the_user() -> None:
    world = World(10)
    world.profile("me", country="BR")
    for n in range(4):
        world.click(f"a{n}", 1, country="BR")
        world.click(f"b{n}", 2, country="US")
    column = SPEC.index("country_clicks_1h")
    for asked, expected in ((request("me"), "i1"), (request("me", context=here("US")), "i2")):
        ranked = world.rank(asked)
        clicked = ranked.pool.candidates.items[ranked.features[:, column] > 0].tolist()
        assert clicked == [hash64(expected)]


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
    assert world.recommender.answer(asked, frozen, world.anchors(asked), T0) == world.answer(asked)


def test_missing_neighbours_lower_the_quality_only() -> None:
    world = busy()
    asked = request("u1")
    from headrace.serving.sources.neighbours import Anchors

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


def test_the_cheapest_list() -> None:
    world = World(50)
    for n in range(10):
        for k in range(10 - n):
            world.click(f"u{k}", n, T0)
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


def test_the_blend_is_finite_and_of_any_length() -> None:
    for n in (0, 1, 5):
        out = blend(np.zeros((n, len(SPEC)), np.float32))
        assert out.shape == (n,)
        assert np.isfinite(out).all()


def test_times_far_from_the_events() -> None:
    world = busy()
    for now in (0, T0 - 40 * DAY_MS, T0 + 400 * DAY_MS):
        assert isinstance(world.shown(request("u1"), now), list)
