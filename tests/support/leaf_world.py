"""A small ranker, and clicks that its training has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from toy_clicks import ids_of

from headrace.models.features.spec import SPEC
from headrace.models.learning import ranker
from headrace.models.learning.hashed import Ids
from headrace.models.learning.ranker import Ranker, RankerParams


def clicks(n: int, seed: int, taste: float = 1.0) -> tuple[Any, Any, Ids]:
    """Return rows, clicks and ids; ``taste``: what one column means to users."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(SPEC))).astype(np.float32)
    logit = 1.5 * x[:, 3] + 1.5 * taste * x[:, 10] - 1
    return x, rng.random(n) < 1 / (1 + np.exp(-logit)), ids_of(n, seed)


def trained(seed: int = 0, version: str = "r1") -> Ranker:
    """Return a ranker of other users' clicks."""
    x, y, _ = clicks(3000, seed)
    text = ranker.train(x, y.astype(np.float32), RankerParams(trees=40, leaves=7, min_leaf=20))
    return Ranker(text, SPEC.names, version)
