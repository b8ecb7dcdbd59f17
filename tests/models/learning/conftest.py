"""Fixtures of the tests of models and training."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.models.features.spec import ONLINE, SPEC
from headrace.models.learning import ranker
from headrace.models.learning.ranker import Ranker, RankerParams


@pytest.fixture(scope="module")
def trained() -> Ranker:
    """Return a ranker of random data."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, len(SPEC))).astype(np.float32)
    y = (x[:, 4] + x[:, ONLINE] > 0).astype(np.float32)
    return Ranker(ranker.train(x, y, RankerParams(trees=5, leaves=7)), SPEC.names, "t1")
