"""Scorer: the online model. Its click probability is a feature of the ranker, too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE
from headrace.models.learning.hashed import Ids
from headrace.models.learning.objectives import CLICK
from headrace.models.learning.online import OnlineWeights
from headrace.serving.pipeline.parts import Scorer
from headrace.serving.pipeline.query import ServingData

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class ByOnline(Scorer):
    """The online model in use: clicks are the feature; with long views and likes it orders a list alone."""

    name = "online"
    fills_feature = True

    def __init__(self, data: ServingData) -> None:
        super().__init__(data)
        self._last: tuple[F32, dict[str, F64]] | None = None

    def ready(self) -> bool:
        """Return whether there is an online model."""
        return self.data.models.online is not None

    def score(self, features: F32) -> F64:
        """Return the click probabilities, float64 ``(n,)``, and write them into their column."""
        return self._fill(features, None)

    def score_for(self, features: F32, ids: Ids) -> F64:
        """Return the click probabilities with the hashed terms of user and items."""
        return self._fill(features, ids)

    def score_alone(self, features: F32, ids: Ids) -> F64:
        """Return the sum of all objectives by their shares; the column gets the click probabilities."""
        online = self._online()
        if not online.shares or not len(features):
            return self._fill(features, ids)
        found = online.foreseen(features, ids)
        features[:, ONLINE] = found[CLICK]
        by = online.by_objective(found)
        self._last = features, by
        return online.together(by)

    def foreseen(self, features: F32) -> dict[str, F64] | None:
        """Return what each objective foresees of the rows that were scored alone last; None for others."""
        last, self._last = self._last, None
        return None if last is None or last[0] is not features else last[1]

    def _fill(self, features: F32, ids: Ids | None) -> F64:
        if len(features):
            features[:, ONLINE] = self._online().predict(features, ids)
        return features[:, ONLINE].astype(np.float64)

    def _online(self) -> OnlineWeights:
        if (online := self.data.models.online) is None:
            raise ValueError("there is no online model")
        return online
