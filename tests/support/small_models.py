"""Models small enough for a test."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning.objectives import Objective
from headrace.models.learning.online import OnlineWeights


def online(seed: int = 0) -> OnlineWeights:
    """Return an online model of random weights."""
    n = len(ONLINE_NAMES)
    weights = np.random.default_rng(seed).standard_normal(n).astype(np.float32) / 9
    return OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), weights, -1.0, "o1")


class Fixed:
    """A ranker whose score is a column times a factor."""

    version = "fixed"
    trees = None
    objectives = (Objective("click", 1.0, ""),)

    def __init__(self, name: str, factor: float = 1.0, shift: float = 0.0) -> None:
        self.column, self.factor, self.shift = SPEC.index(name), factor, shift

    def predict(self, x: Any) -> Any:
        return x[:, self.column].astype(np.float64) * self.factor + self.shift
