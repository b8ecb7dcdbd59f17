"""Factors on scores: a factor above 1 lifts an item, also one with a negative score."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64


def lifted(scores: F64, factors: F64) -> F64:
    """Return scores after factors, float64 ``(n,)``.

    A ranker's raw scores may be negative; those are divided, so that a factor above 1 lifts them too.
    Factors are above 0.
    """
    out: F64 = np.where(scores > 0, scores * factors, scores / factors)
    return out
