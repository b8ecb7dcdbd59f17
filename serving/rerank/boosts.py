"""Boosts: an item's own factor."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64, Choices
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.score_order import lifted

#: A smaller boost counts as this.
_LEAST = 1e-6


def boosts(choices: Choices, scores: F64, rules: Rules) -> F64:
    """Return scores after the items' boosts, float64 ``(m,)``."""
    if not rules.boosts or (choices.boost == 1).all():
        return scores
    return lifted(scores, np.maximum(choices.boost, _LEAST))
