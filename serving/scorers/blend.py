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


def together_of(features: F32) -> float:
    """Return the sum of how often all candidates were clicked together with the session's clicks."""
    return float(features[:, _TOGETHER].astype(np.float64).sum())


def blend(features: F32, total: float | None = None) -> F64:
    """Return the scores used without any model, float64 ``(n,)``.

    They are a sum of pairs, popularity, content, the user's preferences, and freshness. ``total`` is
    ``together_of`` all candidates; None: these are all.
    """
    out: F64 = features[:, _COLUMNS].astype(np.float64) @ np.array(list(WEIGHTS.values()))
    out += _share(features, total)
    return out


def parts_of(features: F32, total: float | None = None) -> tuple[tuple[str, ...], F64]:
    """Return the features of ``blend``, and what each adds to the scores, float64 ``(n, features)``."""
    parts = features[:, _COLUMNS].astype(np.float64) * np.array(list(WEIGHTS.values()))
    return (*WEIGHTS, SPEC.names[_TOGETHER]), np.column_stack([parts, _share(features, total)])


def _share(features: F32, total: float | None) -> F64:
    total = together_of(features) if total is None else total
    out: F64 = 0.5 / (total or 1.0) * features[:, _TOGETHER].astype(np.float64)
    return out


class ByBlend(Scorer):
    """Needs no model."""

    name = "blend"

    def score(self, features: F32) -> F64:
        """Return the scores, float64 ``(n,)``."""
        return blend(features)
