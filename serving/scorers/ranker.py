"""Scorer: the LightGBM ranker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaves import MovedRanker
from headrace.models.learning.objectives import CLICK
from headrace.models.learning.ranker import Ranker
from headrace.serving.pipeline.parts import Scorer
from headrace.serving.pipeline.query import ServingData

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class ByRanker(Scorer):
    """The ranker in use. It reads the online model's score as a feature."""

    name = "ranker"

    def __init__(self, data: ServingData) -> None:
        super().__init__(data)
        self._last: tuple[F32, dict[str, F64]] | None = None

    def ready(self) -> bool:
        """Return whether there is a ranker."""
        return self.data.models.ranker is not None

    def score(self, features: F32) -> F64:
        """Return the scores, float64 ``(n,)``."""
        if (ranker := self.data.models.ranker) is None:
            raise ValueError("there is no ranker")
        if _of_clicks(ranker):
            return ranker.predict(features)
        return self._scored(ranker, features, ranker.by_objective(features))

    def score_for(self, features: F32, ids: Ids) -> F64:
        """Return the scores; the leaf values of the live ranker are as they have moved since its training."""
        ranker, moved = self.data.models.ranker, self._moved()
        if ranker is None or moved is None:
            return self.score(features)
        if _of_clicks(ranker):
            return moved.predict(features, ids)
        return self._scored(ranker, features, moved.by_objective(features, ids))

    def _scored(self, ranker: Ranker, features: F32, by: dict[str, F64]) -> F64:
        self._last = features, by
        return ranker.together(by)

    def foreseen(self, features: F32) -> dict[str, F64] | None:
        """Return what each booster foresees of the rows that were scored last; None for other rows."""
        last, self._last = self._last, None
        return None if last is None or last[0] is not features else last[1]

    def objectives(self, features: F32, ids: Ids) -> dict[str, F64]:
        """Return what each booster foresees; empty where there is only one, for clicks."""
        ranker = self.data.models.ranker
        if ranker is None or _of_clicks(ranker):
            return {}
        moved = self._moved()
        return ranker.by_objective(features) if moved is None else moved.by_objective(features, ids)

    def _moved(self) -> MovedRanker | None:
        models = self.data.models
        return models.moved if models.ranker is models.live else None


def _of_clicks(ranker: Ranker) -> bool:
    """Return whether a ranker foresees clicks only: its score is all there is."""
    return [one.name for one in ranker.objectives] == [CLICK]
