"""Clicks made up for the online model."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.models.features.spec import ONLINE_COLUMNS, SPEC
from headrace.models.learning.hashed import Ids
from headrace.models.learning.objectives import CLICK, OBJECTIVES
from headrace.models.learning.online_learner import OnlineLearner

FIRST = int(ONLINE_COLUMNS[0])


def toy(n: int, seed: int = 0) -> tuple[Any, Any]:
    """Clicks follow three columns of very different scale."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(SPEC))).astype(np.float32)
    logit = 2 * x[:, FIRST] - 2 * x[:, ONLINE_COLUMNS[7]] + x[:, ONLINE_COLUMNS[9]] - 1
    x[:, ONLINE_COLUMNS[7]] = 1000 * x[:, ONLINE_COLUMNS[7]] + 5000
    return x, rng.random(n) < 1 / (1 + np.exp(-logit))


def happened(clicked: Any) -> Any:
    """Return what happened to examples by objective when there were clicks ``(n,)`` and nothing else."""
    out = np.zeros((len(clicked), len(OBJECTIVES)), bool)
    out[:, OBJECTIVES.index(CLICK)] = clicked
    return out


def trained(n: int = 3000, seed: int = 0) -> OnlineLearner:
    learner = OnlineLearner()
    x, y = toy(n, seed)
    for start in range(0, n, 250):
        learner.learn(x[start : start + 250], happened(y[start : start + 250]))
    return learner


def ids_of(n: int, seed: int = 0, users: int = 50, items: int = 30) -> Ids:
    """Return random ids: user and item numbers are the keys, two countries, one device."""
    rng = np.random.default_rng(seed)
    columns = (rng.integers(1, most, n).astype(np.uint64) for most in (users, items, 3, 2))
    return Ids(*columns)
