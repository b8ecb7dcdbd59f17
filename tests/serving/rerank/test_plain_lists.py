"""Lists are those of a plain maker that looks at every slot, with every column, and with arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from slates import candidates
from strategies import unit_vectors

from headrace.serving.rerank.choices import Choices, Unread
from headrace.serving.rerank.choose import LIMITS, choose, compared
from headrace.serving.rerank.exploration import Exploration, Plan
from headrace.serving.rerank.freshness import Freshness
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.thompson import largest_draw


class PlainList:
    """A list by the rules of ``rules.py``, without diversity by determinants, slot by slot."""

    def __init__(self, choices: Choices, n: int, rules: Rules, rng: np.random.Generator) -> None:
        self.rules, self.n = rules, n
        scores = choices.score
        if rules.boosts and (choices.boost != 1).any():
            scores = self.lifted(scores, np.maximum(choices.boost, 1e-6))
        if rules.not_followed != 1 and choices.followed.any():
            scores = self.lifted(scores, np.where(choices.followed, 1.0, rules.not_followed))
        self.order = np.argsort(-scores, kind="stable")
        self.scores = scores[self.order]
        self.c = Choices(*(getattr(choices, name)[self.order] for name in Choices.__dataclass_fields__))
        self.limits = [limit for make in LIMITS if (limit := make(self.c, n, rules)) is not None]
        self.width = compared(len(scores), n)
        self.open, self.factor = np.ones(len(scores), bool), np.ones(len(scores))
        self.by_creator: dict[int, float] = {}
        near = self.c.vectors[: self.width]
        self.diverse = rules.diversity == "mmr" and bool(rules.strength) and bool(near.any())
        self.weighted = np.float32(rules.strength) * near
        self.penalty = np.zeros(self.width, np.float32)
        self.draws = Exploration(n, rules.epsilon, rules.thompson, rng)
        weight = max(1 - rules.strength, 1e-9) if self.diverse else 1.0
        low = self.scores[self.width - 1]
        scale = weight / ((self.scores[0] - low) or 1.0)
        self.up, self.down = np.maximum(self.scores, 0) * scale, np.minimum(self.scores, 0) * scale
        self.zero = low * scale

    @staticmethod
    def lifted(scores: Any, factors: Any) -> Any:
        return np.where(scores > 0, scores * factors, scores / factors)

    def best(self, allowed: Any) -> int:
        width = self.width
        relevance = np.where(
            self.factor == 1, self.up + self.down, self.up * self.factor + self.down / self.factor
        )
        relevance = relevance - self.zero
        worth = relevance[:width] - self.penalty if self.diverse else relevance[:width]
        worth = np.where(allowed[:width], worth, -np.inf)
        best = int(worth.argmax())
        return best if worth[best] > -np.inf else int(np.where(allowed, relevance, -np.inf).argmax())

    def plan(self, slot: int, limits: list[Any]) -> tuple[Plan, str]:
        allowed, asking = self.open.copy(), ""
        for limit in limits:
            mask = limit.allowed(slot)
            if mask is None or not (allowed & mask).any():
                continue
            asking = asking or limit.reason
            allowed = allowed & mask
        lottery = None
        if self.rules.thompson and asking == "fresh":
            lottery = self.fresh(allowed)
        plan = Plan(allowed, self.best(allowed), None, int(allowed.sum()))
        plan.lottery = lottery
        return plan, asking

    def fresh(self, allowed: Any) -> Any:
        places = np.flatnonzero(allowed)[:32]
        clicks, shown, prior = self.c.clicks[places], self.c.shown[places], self.c.prior[places]
        weight = self.rules.prior_clicks + self.rules.prior_misses
        before = np.where(prior > 0, prior * weight, self.rules.prior_clicks)
        return Chances(places, largest_draw(clicks + before, np.maximum(shown - clicks, 0) + weight - before))

    def made(self) -> tuple[list[int], list[float], list[bool]]:
        chosen, propensity, explored = list[int](), list[float](), list[bool]()
        limit = next((one for one in self.limits if isinstance(one, Freshness)), None)
        for slot in range(self.n):
            plan, _ = self.plan(slot, self.limits)
            greedy = plan.greedy
            if limit is not None and slot == limit.by_chance:
                kept, (free, _) = plan, self.plan(slot, [one for one in self.limits if one is not limit])
                plan, greedy = (kept if self.draws.kept(limit.chance) else free), free.greedy
                pick = self.draws.pick(slot, plan)
                chance = limit.chance * self.draws.propensity(kept, pick)
                chance = chance + (1 - limit.chance) * self.draws.propensity(free, pick)
            else:
                pick = self.draws.pick(slot, plan)
                chance = self.draws.propensity(plan, pick)
            chosen.append(int(self.order[pick]))
            propensity.append(chance)
            explored.append(pick != greedy)
            self.put(slot, pick)
        return chosen, propensity, explored

    def put(self, slot: int, place: int) -> None:
        self.open[place] = False
        for limit in self.limits:
            limit.put(slot, place)
        if self.diverse:
            self.penalty = np.maximum(self.penalty, self.weighted @ self.c.vectors[place])
        creator = int(self.c.creator[place])
        if self.rules.creator_decay != 1 and creator and self.c.creator.any():
            before = self.by_creator.get(creator, 1.0)
            now = self.by_creator[creator] = max(self.rules.creator_floor, before * self.rules.creator_decay)
            if now != before:
                same = np.flatnonzero(self.c.creator[: self.width] == creator)
                self.factor[same] *= now / before


class Chances:
    """A lottery whose chances are known."""

    def __init__(self, places: Any, chances: Any) -> None:
        self.places, self.chances = places, chances

    def draw(self, point: float) -> int:
        ends = np.cumsum(self.chances)
        return int(self.places[min(int(np.searchsorted(ends, point * ends[-1], "right")), len(ends) - 1)])

    def chance(self, place: int) -> float:
        return float(self.chances[self.places == place].sum())


def drawn(m: int, seed: int) -> Choices:
    """Return candidates with every column but ``guess`` drawn; some scores are equal, or negative."""
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(max(m, 1), seed)[:m]
    vectors[rng.random(m) < 0.2] = 0
    clicks = rng.integers(0, 5, m)
    titled = rng.random() < 0.3
    return candidates(
        rng.integers(-20, 20, m) / 7 if seed % 2 else rng.standard_normal(m),
        vectors=vectors,
        creator=rng.integers(0, 6, m),
        category=rng.integers(0, 4, m),
        followed=rng.random(m) < 0.2,
        tail=rng.random(m) < 0.3,
        fresh=rng.random(m) < 0.2,
        clicks=clicks,
        shown=clicks + rng.integers(0, 50, m),
        boost=rng.choice([0.5, 1, 1, 2], m),
        prior=rng.choice([0, 0.02, 0.1], m),
        title=rng.integers(0, 300, m) if titled else np.zeros(m),
    )


rules = st.builds(
    Rules,
    diversity=st.sampled_from(["mmr", "none"]),
    strength=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    creator_decay=st.sampled_from([1.0, 0.5]),
    creator_at_most=st.sampled_from([0, 0, 0, 3]),
    creator_window=st.sampled_from([0, 4]),
    category_share=st.sampled_from([1.0, 1.0, 1.0, 0.25]),
    tail_share=st.sampled_from([0.0, 0.0, 0.0, 0.2]),
    not_followed=st.sampled_from([1.0, 0.75]),
    boosts=st.booleans(),
    fresh_share=st.sampled_from([0.0, 0.05, 0.1, 0.5]),
    thompson=st.sampled_from([0.0, 0.5, 1.0]),
    epsilon=st.sampled_from([0.0, 0.02, 0.1, 1.0]),
)


@given(st.integers(1, 250), st.integers(1, 60), rules, st.integers(0, 2**32))
def test_lists_are_those_of_a_plain_maker(m: int, n: int, rules: Rules, seed: int) -> None:
    choices = drawn(m, seed)
    slate = choose(choices, n, rules, np.random.default_rng(seed))
    chosen, propensity, explored = PlainList(choices, min(m, n), rules, np.random.default_rng(seed)).made()
    assert slate.chosen.tolist() == chosen
    assert slate.propensity.tolist() == propensity
    assert slate.explored.tolist() == explored


@given(st.integers(1, 150), rules, st.integers(0, 2**32))
def test_vectors_that_are_read_late_make_the_same_list(m: int, rules: Rules, seed: int) -> None:
    choices = drawn(m, seed)
    names = [name for name in Choices.__dataclass_fields__ if name != "vectors"]
    late = Unread(choices.vectors.__getitem__, **{name: getattr(choices, name) for name in names})
    some = np.random.default_rng(seed).permutation(m)[: m // 2 + 1]
    for one, other in ((choices, late), (choices.take(some), late.take(some))):
        first = choose(one, 20, rules, np.random.default_rng(seed))
        second = choose(other, 20, rules, np.random.default_rng(seed))
        assert first.chosen.tolist() == second.chosen.tolist()
        assert first.propensity.tolist() == second.propensity.tolist()
        assert first.reasons == second.reasons
    np.testing.assert_array_equal(late.vectors, choices.vectors)
