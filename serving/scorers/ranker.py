"""Scorer: the LightGBM ranker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.learning.objectives import CLICK
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

    def objectives(self, features: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
        """Return what each booster foresees; empty where there is only one, for clicks."""
        ranker = self.data.models.ranker
        if ranker is None or [one.name for one in ranker.objectives] == [CLICK]:
            return {}
        return ranker.by_objective(features)
