"""Re-ranking with the defaults of the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from strategies import unit_vectors

from headrace.serving.rerank.slate import Slate, rerank


def run(
    score: Any, n: int, *, lam: float = 1.0, epsilon: float = 0.0, seed: int = 0, vectors: Any = None
) -> Slate:
    score = np.asarray(score, np.float64)
    vectors = unit_vectors(len(score), 1) if vectors is None else vectors
    return rerank(score, vectors, n, mmr_lambda=lam, epsilon=epsilon, rng=np.random.default_rng(seed))
