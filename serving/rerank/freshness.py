"""Some slots are kept for new items, so that they are seen often enough to be judged."""

from __future__ import annotations

import math

import numpy as np

from headrace.serving.rerank.choices import Choices, Mask
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import FRESH


class Freshness:
    """Keeps ``budget`` of ``n`` slots for fresh items: each in the middle of its stretch of the list.

    When the budget is no whole number, the last of the slots is kept by chance: so the expected number is the
    budget, also on short lists.

    Attributes
    ----------
    by_chance, chance
        That slot, -1 when there is none, and how likely it is kept.
    slots
        All slots that are kept.
    """

    reason = FRESH

    def __init__(self, fresh: Mask, n: int, budget: float) -> None:
        self._fresh = fresh
        total = max(1, math.ceil(budget - 1e-9))
        slots = [(2 * k + 1) * n // (2 * total) for k in range(total)]
        self.chance = budget - (total - 1)
        self.by_chance = slots[-1] if self.chance < 1 - 1e-9 else -1
        self.slots = frozenset(slots)

    @classmethod
    def of(cls, choices: Choices, n: int, rules: Rules) -> Freshness | None:
        """Return the rule for a list of ``n`` slots, None when it is off or there are no such items.

        Where nothing is left to chance, the budget is rounded.
        """
        budget = rules.fresh_share * n
        if not rules.thompson:
            budget = int(budget + 0.5)
        return cls(choices.fresh, n, budget) if budget and np.count_nonzero(choices.fresh) else None

    def allowed(self, slot: int) -> Mask | None:
        """Return the fresh items in the slots that are kept for them, else None."""
        return self._fresh if slot in self.slots else None

    def put(self, slot: int, place: int) -> None:
        """Nothing is counted: the slots are fixed."""
