"""Scorer: a fixed blend of pairs, popularity, content, preferences and freshness, for want of a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.serving.pipeline.parts import Scorer

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: The weight of each feature. Clicks are the country's; where it has few, they are close to all clicks.
WEIGHTS = {
    "next_share": 0.5,
    "country_smoothed_1h": 0.5,
    "vector_user": 0.05,
    "category_affinity": 0.05,
    "category_preferred": 0.05,
    "creator_followed": 0.05,
    "item_clicks_24h": 0.002,
    "item_age_h": -1e-4,
}
_COLUMNS = np.array([SPEC.index(name) for name in WEIGHTS])
_TOGETHER = SPEC.index("together_score")


def blend(features: F32) -> F64:
    """Return the scores used without any model, float64 ``(n,)``.

    They are a sum of pairs, popularity, content, the user's preferences, and freshness.
    """
    together = features[:, _TOGETHER].astype(np.float64)
    total = float(together.sum()) or 1.0
    out: F64 = features[:, _COLUMNS].astype(np.float64) @ np.array(list(WEIGHTS.values()))
    out += 0.5 / total * together
    return out


class ByBlend(Scorer):
    """Needs no model."""

    name = "blend"

    def score(self, features: F32) -> F64:
        """Return the scores, float64 ``(n,)``."""
        return blend(features)
