"""At least a share of the slots shows long-tail items."""

from __future__ import annotations

import math

from headrace.serving.rerank.choices import Choices, Mask
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import LONG_TAIL


class LongTail:
    """At least ``total`` of ``n`` slots show long-tail items, spread evenly.

    After j slots, at least ``total * j // n`` of them do. So a slot is kept for the long tail only when the
    slots above have shown too few.
    """

    reason, slots = LONG_TAIL, None

    def __init__(self, tail: Mask, n: int, total: int) -> None:
        self._tail = tail
        self._n, self._total = n, total
        self._shown = 0

    @classmethod
    def of(cls, choices: Choices, n: int, rules: Rules) -> LongTail | None:
        """Return the rule for a list of ``n`` slots, None when it is off or there are no such items."""
        total = math.ceil(rules.tail_share * n - 1e-9)
        return cls(choices.tail, n, total) if total and choices.tail.any() else None

    def allowed(self, slot: int) -> Mask | None:
        """Return the long-tail items when one is due, else None."""
        return self._tail if self._shown < self._total * (slot + 1) // self._n else None

    def put(self, slot: int, place: int) -> None:
        """Count long-tail items."""
        self._shown += bool(self._tail[place])
