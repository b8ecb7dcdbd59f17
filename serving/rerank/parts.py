"""What a rule of the re-rank stage looks like. ``choose.py`` names the rules and their order.

Candidates are sorted by score before the first slot, the best first. A *place* is a position in that order.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from headrace.serving.rerank.choices import F32, F64, I64, Choices, Mask
from headrace.serving.rerank.rules import Rules


class ScoreRule(Protocol):
    """Changes scores before the list is begun."""

    def __call__(self, choices: Choices, scores: F64, rules: Rules) -> F64:
        """Return the new scores, float64 ``(m,)``; the same array when the rule is off."""
        ...


class Limit(Protocol):
    """Says which candidates may be in the next slot.

    ``reason`` is why an item is shown that this rule has put there; empty for a rule that only keeps items
    away.

    ``slots`` are those where it may say something, whatever is on the list: such a rule is not told what is
    put there. None, or no such attribute: that depends on the list. Those of a longer list may be among them.
    """

    reason: str

    @property
    def slots(self) -> Collection[int] | None:
        """The slots where it may say something; None: it depends on the list."""
        ...

    def allowed(self, slot: int) -> Mask | None:
        """Return the candidates that may be in this slot, bool ``(m,)``; None when all may."""
        ...

    def put(self, slot: int, place: int) -> None:
        """Note that the candidate at this place is in this slot now."""
        ...


class Decay(Protocol):
    """Makes some of the best w candidates weaker, given what is on the list."""

    def put(self, place: int, factors: F64) -> I64:
        """Note that the candidate at this place is on the list.

        Multiplies the factors ``(w,)`` in place, and returns the places of those that have changed.
        """
        ...


class Diversifier(Protocol):
    """Knows how much each of the best w candidates repeats what is on the list.

    ``penalty`` is that, times the strength, ``(w,)``. What a candidate would add to the list is
    ``(1 - strength) * relevance - penalty``, with a relevance from 0 to 1.
    """

    @property
    def penalty(self) -> F32:
        """The penalty of each candidate, given what is on the list."""
        ...

    def put(self, vector: F32) -> None:
        """Note that an item with this vector ``(DIM,)`` is on the list."""
        ...
