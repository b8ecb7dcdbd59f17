"""Exploration: some slots show a random candidate, with exactly known probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.serving.rerank.choices import F64, I64, Mask


class Lottery:
    """Candidates that a slot is drawn from.

    Parameters
    ----------
    places
        Of the candidates, ``(k,)``.
    chances
        Returns the chance of each, float64 ``(k,)``, sum 1. It is called once, when it is first needed.
    """

    __slots__ = ("_chances", "_known", "places")

    def __init__(self, places: I64, chances: Callable[[], F64]) -> None:
        self.places, self._chances = places, chances
        self._known: F64 | None = None

    @property
    def chances(self) -> F64:
        """The chance of each, float64 ``(k,)``."""
        if self._known is None:
            self._known = self._chances()
        return self._known

    def draw(self, point: float) -> int:
        """Return the place at this point of 0..1."""
        ends = self.chances.cumsum()
        return int(self.places[min(int(ends.searchsorted(point * ends[-1], "right")), len(ends) - 1)])

    def chance(self, place: int) -> float:
        """Return the chance of the candidate at this place; 0 when it is not among them."""
        at = np.flatnonzero(self.places == place)
        return float(self.chances[at[0]]) if len(at) else 0.0


@dataclass(slots=True)
class Plan:
    """How a slot is filled.

    Attributes
    ----------
    allowed
        The candidates that may be in it, bool ``(m,)``; at least one.
    greedy
        The place of the one that is shown without chance.
    lottery
        What else it may be drawn from; over allowed candidates.
    count
        Number of allowed candidates.
    """

    allowed: Mask
    greedy: int
    lottery: Lottery | None
    count: int


class Exploration:
    """Decides for each slot whether a random candidate replaces the greedy choice.

    Parameters
    ----------
    n
        Number of slots to fill.
    epsilon
        Chance, slot by slot, of a uniformly random candidate among the allowed ones.
    thompson
        Otherwise, in a slot with a lottery: chance that the lottery fills it.
    rng
        Source of the randomness. The numbers of all slots are drawn at once, so that a slot's do not depend
        on what the slots above did.

    Attributes
    ----------
    uniform
        The slots that a random one of the allowed candidates fills.

    Notes
    -----
    Propensity of the item in slot j, given the slots above::

        epsilon / allowed + (1 - epsilon) * (thompson * chance + (1 - thompson) * greedy)

    ``allowed`` is their number, ``chance`` that of the item in the lottery, ``greedy`` 1 for the greedy
    choice. ``thompson`` counts as 0 in a slot without a lottery. A slot that is kept for fresh items by
    chance has two plans, and the item's propensity is that in both, by their chances.
    """

    def __init__(self, n: int, epsilon: float, thompson: float, rng: np.random.Generator) -> None:
        self._epsilon, self._thompson = epsilon, thompson
        self._draws: list[float] = rng.random(3 * n + 1).tolist()  # three for each slot, and ``kept``
        self.uniform = [slot for slot, first in enumerate(self._draws[: 3 * n : 3]) if first < epsilon]

    def kept(self, chance: float) -> bool:
        """Return whether the slot is kept that is kept with this chance; a list has one such slot at most."""
        return self._draws[-1] < chance

    def pick(self, slot: int, plan: Plan) -> int:
        """Return the place of the candidate that is shown in a slot (its number)."""
        uniform, share, point = self._draws[3 * slot : 3 * slot + 3]
        if uniform < self._epsilon:
            allowed = np.flatnonzero(plan.allowed)
            return int(allowed[int(point * len(allowed))])
        if plan.lottery and share < self._thompson:
            return plan.lottery.draw(point)
        return plan.greedy

    def propensity(self, plan: Plan, place: int) -> float:
        """Return the probability that the candidate at this place fills a slot with this plan."""
        if not plan.allowed[place]:
            return 0.0
        by_lottery = self._thompson if plan.lottery else 0.0
        given = (1 - by_lottery) * (place == plan.greedy)
        if plan.lottery:
            given += by_lottery * plan.lottery.chance(place)
        return self._epsilon / plan.count + (1 - self._epsilon) * given
