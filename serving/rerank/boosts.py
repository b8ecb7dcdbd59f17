"""Boosts: an item's own factor."""

from __future__ import annotations

from headrace.serving.rerank.choices import F64, Choices
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.score_order import lifted_by_boosts

#: A smaller boost counts as this.
_LEAST = 1e-6


def boosts(choices: Choices, scores: F64, rules: Rules) -> F64:
    """Return scores after the items' boosts, float64 ``(m,)``."""
    return lifted_by_boosts(scores, choices.boost, _LEAST) if rules.boosts else scores
