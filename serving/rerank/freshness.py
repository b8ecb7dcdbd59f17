"""Some slots are kept for new items, so that they are seen often enough to be judged."""

from __future__ import annotations

from headrace.serving.rerank.choices import Choices, Mask
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import FRESH


class Freshness:
    """Keeps ``total`` of ``n`` slots for fresh items: each in the middle of its stretch of the list."""

    reason = FRESH

    def __init__(self, fresh: Mask, n: int, total: int) -> None:
        self._fresh = fresh
        self._slots = {(2 * k + 1) * n // (2 * total) for k in range(total)}

    @classmethod
    def of(cls, choices: Choices, n: int, rules: Rules) -> Freshness | None:
        """Return the rule for a list of ``n`` slots, None when it is off or there are no such items."""
        total = int(rules.fresh_share * n + 0.5)
        return cls(choices.fresh, n, total) if total and choices.fresh.any() else None

    def allowed(self, slot: int) -> Mask | None:
        """Return the fresh items in the slots that are kept for them, else None."""
        return self._fresh if slot in self._slots else None

    def put(self, slot: int, place: int) -> None:
        """Nothing is counted: the slots are fixed."""
