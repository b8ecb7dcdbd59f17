"""Scorer: the LightGBM ranker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaves import MovedRanker
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

    def score_for(self, features: npt.NDArray[np.float32], ids: Ids) -> npt.NDArray[np.float64]:
        """Return the scores; the leaf values of the live ranker are as they have moved since its training."""
        moved = self._moved()
        return self.score(features) if moved is None else moved.predict(features, ids)

    def objectives(self, features: npt.NDArray[np.float32], ids: Ids) -> dict[str, npt.NDArray[np.float64]]:
        """Return what each booster foresees; empty where there is only one, for clicks."""
        ranker = self.data.models.ranker
        if ranker is None or [one.name for one in ranker.objectives] == [CLICK]:
            return {}
        moved = self._moved()
        return ranker.by_objective(features) if moved is None else moved.by_objective(features, ids)

    def _moved(self) -> MovedRanker | None:
        models = self.data.models
        return models.moved if models.ranker is models.live else None
