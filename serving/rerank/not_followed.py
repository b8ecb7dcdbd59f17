"""Items of creators whom the user does not follow are discounted."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64, Choices
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.score_order import lifted_but


def not_followed(choices: Choices, scores: F64, rules: Rules) -> F64:
    """Return scores after the discount, float64 ``(m,)``; unchanged when nobody among them is followed."""
    if rules.not_followed == 1 or not np.count_nonzero(choices.followed):
        return scores
    return lifted_but(scores, choices.followed, rules.not_followed)
