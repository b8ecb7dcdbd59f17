"""Scorer: the LightGBM ranker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.learning.hashed import Ids
from headrace.serving.pipeline.parts import Scorer


class ByRanker(Scorer):
    """The ranker in use. It reads the online model's score as a feature."""

    name = "ranker"

    def ready(self) -> bool:
        """Return whether there is a ranker."""
        return self.data.models.ranker is not None

    def score(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the scores, float64 ``(n,)``."""
        if (ranker := self.data.models.ranker) is None:
            raise ValueError("there is no ranker")
        return ranker.predict(features)

    def score_for(self, features: npt.NDArray[np.float32], ids: Ids) -> npt.NDArray[np.float64]:
        """Return the scores; the leaf values of the live ranker are as they have moved since its training."""
        models = self.data.models
        if models.moved is not None and models.ranker is models.live:
            return models.moved.predict(features, ids)
        return self.score(features)
