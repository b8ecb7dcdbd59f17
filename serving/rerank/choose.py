"""Makes a list from scores, slot by slot: rules, diversity, exploration.

To add a rule: write a file with a class or function of one of the kinds in ``parts.py``, add its numbers to
``rules.py``, and add it to one of the tuples below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from headrace.serving.rerank.boosts import boosts
from headrace.serving.rerank.choices import F32, F64, I64, Choices, Mask
from headrace.serving.rerank.creator_decay import CreatorDecay
from headrace.serving.rerank.dpp import Dpp
from headrace.serving.rerank.exploration import Exploration, Lottery, Plan
from headrace.serving.rerank.freshness import Freshness
from headrace.serving.rerank.largest_draws import believed
from headrace.serving.rerank.long_tail import LongTail
from headrace.serving.rerank.mmr import Mmr
from headrace.serving.rerank.not_followed import not_followed
from headrace.serving.rerank.parts import Decay, Diversifier, Limit, ScoreRule
from headrace.serving.rerank.quota import category_quota, creator_quota
from headrace.serving.rerank.remaining import Remaining
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.same_title import same_title
from headrace.serving.rerank.score_order import best_first
from headrace.serving.rerank.slate import EXPLORED, FRESH, WELCOME, Slate
from headrace.serving.rerank.thompson import largest_draw
from headrace.serving.rerank.welcome import welcome

SCORE_RULES: tuple[ScoreRule, ...] = (boosts, not_followed)
DECAYS = (CreatorDecay.of,)
#: The strongest first. Where a rule would leave nothing for a slot, it is left out for that slot; so of two
#: rules that cannot both be kept, the first one is.
LIMITS = (same_title, creator_quota, category_quota, Freshness.of, LongTail.of)

#: Decay and diversity choose among the best ``max(3 * n, 100)`` candidates; when none of them is allowed, the
#: best allowed one by score is next.
_PER_SLOT, _AT_LEAST = 3, 100
#: Thompson sampling chooses among this many allowed fresh candidates, the best by score.
_FRESH = 32
#: With nothing but diversity (strength 1), relevance still decides between equals.
_LEAST = 1e-9
_BEST = np.zeros(1, np.int64)
_NOTHING = np.zeros((0, 0), np.float32)


def choose(choices: Choices, n: int, rules: Rules, rng: np.random.Generator) -> Slate:
    """Fill ``n`` slots, or as many as there are candidates.

    Parameters
    ----------
    choices
        The candidates.
    n
        Number of slots.
    rules
        How the list is made.
    rng
        Source of all randomness; the same state gives the same list.

    Raises
    ------
    ValueError
        A column of the choices has another length, or a score is not a finite number.
    """
    choices.check()
    n = max(0, min(n, len(choices)))
    if not n:
        return Slate.empty(0)
    scores, order = by_score(choices, rules)
    slate = _ListMaker(choices.take(order), scores.take(order), n, rules, rng).fill()
    slate.chosen = order.take(slate.chosen)
    return slate


def compared(m: int, n: int) -> int:
    """Return among how many of the best of ``m`` candidates decay and diversity choose, for ``n`` slots.

    Only of these, and of what is put on the list, vectors are read.
    """
    return min(m, max(_PER_SLOT * n, _AT_LEAST))


def by_score(choices: Choices, rules: Rules) -> tuple[F64, I64]:
    """Return the scores by the rules, and the places of the candidates, the best first."""
    scores = choices.score
    for rule in SCORE_RULES:
        scores = rule(choices, scores, rules)
    return scores, best_first(scores)


@dataclass(slots=True)
class _Plan(Plan):
    """How a slot is filled, and why.

    ``asking``: why some candidates are asked for; ``otherwise``: those that are allowed without that;
    ``why``: what the lottery is for.
    """

    asking: str
    otherwise: Mask
    why: str


class _ListMaker:
    """The list that is being made; candidates are sorted by score, the best first."""

    def __init__(self, choices: Choices, scores: F64, n: int, rules: Rules, rng: np.random.Generator) -> None:
        m = len(scores)
        self._choices, self._n, self._rules = choices, n, rules
        self._limits: list[Limit] = [r for make in LIMITS if (r := make(choices, n, rules)) is not None]
        self._counting = [one for one in self._limits if getattr(one, "slots", None) is None]
        self._freshness = next((limit for limit in self._limits if isinstance(limit, Freshness)), None)
        width = self._width = compared(m, n)
        self._decays: list[Decay] = [d for make in DECAYS if (d := make(choices, width, rules)) is not None]
        self._near = _NOTHING
        self._diversifier: Diversifier | None = None
        if rules.diversity != "none" and rules.strength:
            self._near = choices.vectors_at(np.arange(width))
            self._diversifier = _diversifier(self._near, n, rules)
        weight = max(1 - rules.strength, _LEAST) if self._diversifier else 1.0
        self._remaining = Remaining(scores, width, weight)
        self._open = self._remaining.open
        self._exploration = Exploration(n, rules.epsilon, rules.thompson, rng)
        self._welcomed = (
            rules.welcome if rules.thompson and rules.welcome and choices.column_at("guess", _BEST)[0] else 0
        )

    def fill(self) -> Slate:
        """Return the list, as places in the order by score."""
        slate, since = Slate.empty(self._n), 0
        for slot in self._looked_at():
            self._best_ones(slate, since, slot)
            pick, slate.propensity[slot], slate.explored[slot], slate.reasons[slot] = self._pick(slot)
            slate.chosen[slot] = pick
            self._put(slot, pick)
            since = slot + 1
        self._best_ones(slate, since, self._n)
        return slate

    def _looked_at(self) -> Sequence[int]:
        """Return the slots where limits or chance may say something; the best is in all others."""
        if self._counting:
            return range(self._n)
        slots = {slot for limit in self._limits for slot in limit.slots or ()}.intersection(range(self._n))
        return sorted(slots.union(self._exploration.uniform, range(min(self._welcomed, self._n))))

    def _best_ones(self, slate: Slate, since: int, until: int) -> None:
        """Fill slots with the candidates that add most."""
        if since < until:
            self._remaining.fill(
                slate.chosen[since:until],
                slate.propensity[since:until],
                self._rules.epsilon,
                self._diversifier,
                self._decays,
                self._near,
                self._vector,
            )

    def _vector(self, place: int) -> F32:
        """Return the vector of a candidate that is not among the near ones, float32 ``(DIM,)``."""
        return cast("F32", self._choices.vectors_at(np.array([place]))[0])

    def _pick(self, slot: int) -> tuple[int, float, bool, str]:
        """Return what fills a slot, its propensity, whether it was explored, and its reason."""
        plan, draws = self._plan(slot, self._limits), self._exploration
        if self._freshness is None or slot != self._freshness.by_chance:
            pick = draws.pick(slot, plan)
            return pick, draws.propensity(plan, pick), pick != plan.greedy, self._reason(plan, pick)
        chance, kept = self._freshness.chance, plan
        free = self._plan(slot, [limit for limit in self._limits if limit is not self._freshness])
        plan = kept if draws.kept(chance) else free
        pick = draws.pick(slot, plan)
        propensity = chance * draws.propensity(kept, pick) + (1 - chance) * draws.propensity(free, pick)
        return pick, propensity, pick != free.greedy, self._reason(plan, pick)

    def _plan(self, slot: int, limits: Sequence[Limit]) -> _Plan:
        allowed, count, asking, otherwise = self._allowed(slot, limits)
        lottery, why = self._lottery(slot, allowed, asking)
        return _Plan(allowed, self._best(allowed), lottery, count, asking, otherwise, why)

    def _reason(self, plan: _Plan, pick: int) -> str:
        """Return why an item is in its slot, when a rule or chance has put it there."""
        if pick != plan.greedy and plan.lottery is None:
            return EXPLORED
        if plan.why == WELCOME and pick != plan.greedy:
            return WELCOME
        return plan.asking if plan.asking and pick != self._best(plan.otherwise) else ""

    def _allowed(self, slot: int, limits: Sequence[Limit]) -> tuple[Mask, int, str, Mask]:
        """Return the candidates for this slot, how many, why some are asked for, the candidates otherwise.

        Rules that would leave none are left out.
        """
        allowed, asking, otherwise = self._open, "", self._open
        count = len(allowed) - slot
        for limit in limits:
            mask = limit.allowed(slot)
            if mask is None:
                continue
            fewer = allowed & mask
            if not (left := np.count_nonzero(fewer)):
                continue
            if limit.reason and not asking:
                asking, otherwise = limit.reason, allowed
            allowed, count = fewer, int(left)
        return allowed, count, asking, otherwise

    def _best(self, allowed: Mask) -> int:
        """Return the place of the best allowed candidate."""
        penalty = self._diversifier.penalty if self._diversifier else None
        return self._remaining.best(penalty, None if allowed is self._open else allowed)

    def _lottery(self, slot: int, allowed: Mask, asking: str) -> tuple[Lottery | None, str]:
        """Return the lottery of a slot, None when chance does not fill it, and what it is for."""
        if not self._rules.thompson:
            return None, ""
        if asking == FRESH:
            return self._fresh(allowed), FRESH
        if slot < self._welcomed:
            return welcome(self._choices, allowed[: self._width], ~self._open, self._rules), WELCOME
        return None, ""

    def _fresh(self, allowed: Mask) -> Lottery:
        """Return the lottery of a fresh slot: Thompson sampling from what is known of their click rates."""
        places = np.flatnonzero(allowed)[:_FRESH]
        choices, rules = self._choices, self._rules
        begin = rules.prior_clicks, rules.prior_misses

        def chances() -> F64:
            clicks, shown, prior = (choices.column_at(name, places) for name in ("clicks", "shown", "prior"))
            return largest_draw(*believed(clicks, shown, prior, *begin))

        return Lottery(places, chances)

    def _put(self, slot: int, place: int) -> None:
        self._remaining.put(place, self._diversifier, self._decays, self._near, self._vector)
        for limit in self._counting:
            limit.put(slot, place)


def _diversifier(vectors: F32, n: int, rules: Rules) -> Diversifier | None:
    """Return what keeps similar items apart, None when there is no content."""
    if not (np.count_nonzero(vectors[0]) or vectors.any()):
        return None
    return Mmr(vectors, rules.strength) if rules.diversity == "mmr" else Dpp(vectors, n, rules.strength)
