"""Models small enough for a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning.hashed import SLOTS
from headrace.models.learning.objectives import CLICK, LIKE, LONG_VIEW, Objective
from headrace.models.learning.online import Head, OnlineWeights


def online(seed: int = 0) -> OnlineWeights:
    """Return an online model of random weights that foresees clicks."""
    n = len(ONLINE_NAMES)
    weights = np.random.default_rng(seed).standard_normal(n).astype(np.float32) / 9
    return OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), weights, -1.0, "o1")


def online_of_all(seed: int = 0) -> OnlineWeights:
    """Return an online model that foresees all objectives, with hashed terms, and weighs them."""
    rng = np.random.default_rng(seed)

    def head(bias: float, happened: int) -> Head:
        weights = rng.standard_normal(len(ONLINE_NAMES)).astype(np.float32) / 9
        terms = rng.standard_normal(SLOTS).astype(np.float16).astype(np.float32) / 4
        return Head(weights, bias, terms, np.full(len(ONLINE_NAMES) + 1, 2, np.float32), happened)

    heads = {LONG_VIEW: head(-2.0, 60), LIKE: head(-3.0, 9)}
    return replace(online(seed), heads=heads, shares={CLICK: 0.3, LONG_VIEW: 0.5, LIKE: 0.2})


class Fixed:
    """A ranker whose score is a column times a factor."""

    version = "fixed"
    trees = None
    objectives = (Objective("click", 1.0, ""),)

    def __init__(self, name: str, factor: float = 1.0, shift: float = 0.0) -> None:
        self.column, self.factor, self.shift = SPEC.index(name), factor, shift

    def predict(self, x: Any) -> Any:
        return x[:, self.column].astype(np.float64) * self.factor + self.shift
