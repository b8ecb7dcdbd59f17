"""Scorer: a fixed blend of pairs, popularity, content and freshness, for want of a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.serving.pipeline.parts import Scorer

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_NEXT, _TOGETHER, _SHARE, _VECTOR, _AFFINITY, _AGE = (
    SPEC.index(n)
    for n in (
        "next_share",
        "together_score",
        "item_click_share_1h",
        "vector_user",
        "category_affinity",
        "item_age_h",
    )
)


def blend(features: F32) -> F64:
    """Return the scores used without any model, float64 ``(n,)``: pairs, popularity, content, freshness."""
    together = features[:, _TOGETHER]
    total = float(together.sum()) or 1.0
    out: F64 = (
        0.5 * features[:, _NEXT].astype(np.float64)
        + 0.5 * together / total
        + 0.5 * features[:, _SHARE]
        + 0.05 * features[:, _VECTOR]
        + 0.05 * features[:, _AFFINITY]
        - 1e-4 * features[:, _AGE]
    )
    return out


class ByBlend(Scorer):
    """Needs no model."""

    name = "blend"

    def score(self, features: F32) -> F64:
        """Return the scores, float64 ``(n,)``."""
        return blend(features)
