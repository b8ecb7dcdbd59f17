"""Items of creators whom the user does not follow are discounted."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64, Choices
from headrace.serving.rerank.lift import lifted
from headrace.serving.rerank.rules import Rules


def not_followed(choices: Choices, scores: F64, rules: Rules) -> F64:
    """Return scores after the discount, float64 ``(m,)``; unchanged when nobody among them is followed."""
    if rules.not_followed == 1 or not choices.followed.any():
        return scores
    return lifted(scores, np.where(choices.followed, 1.0, rules.not_followed))
