"""Scores from features: by the ranker, else the online model, else a fixed blend; then the items' boosts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE, SPEC
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.serving.rerank.slate import Slate
from headrace.serving.retriever import Pool
from headrace.serving.sources.neighbours import Anchors

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(slots=True)
class Ranked:
    """A ranked list with its features and scores, for the reply, the log and the evaluation."""

    pool: Pool
    features: F32  # (n_candidates, len(SPEC))
    score: F64  # (n_candidates,)
    slate: Slate
    anchors: Anchors
    degraded: list[str] = field(default_factory=list)


def score(features: F32, ranker: Ranker | None, online: OnlineWeights | None) -> tuple[F64, list[str]]:
    """Score with the best model available.

    Parameters
    ----------
    features
        float32 ``(n, len(SPEC))``. The online model's score is written into its column: the ranker reads it.
    ranker, online
        The models in use, None while there is none.

    Returns
    -------
    Scores, float64 ``(n,)``, and the names of the models that are missing.
    """
    missing = [name for name, model in (("ranker", ranker), ("online", online)) if model is None]
    if online is not None and len(features):
        features[:, ONLINE] = online.predict(features)
    if ranker is not None:
        return ranker.predict(features), missing
    if online is not None:
        return features[:, ONLINE].astype(np.float64), missing
    return blend(features), missing


def boosted(scores: F64, boost: F64) -> F64:
    """Return scores after the items' boosts, float64 ``(n,)``: a boost above 1 lifts an item.

    A ranker's raw scores may be negative; those are divided, so that a boost above 1 lifts them too.
    """
    out: F64 = np.where(scores > 0, scores * boost, scores / np.maximum(boost, 1e-6))
    return out


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
