"""Scorer: the online model. Its score is a feature of the ranker, too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE
from headrace.models.learning.hashed import Ids
from headrace.serving.pipeline.parts import Scorer


class ByOnline(Scorer):
    """The online model in use."""

    name = "online"
    fills_feature = True

    def ready(self) -> bool:
        """Return whether there is an online model."""
        return self.data.models.online is not None

    def score(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the scores, float64 ``(n,)``, and write them into their column of the features."""
        return self._fill(features, None)

    def score_for(self, features: npt.NDArray[np.float32], ids: Ids) -> npt.NDArray[np.float64]:
        """Return the scores with the hashed terms of user and items."""
        return self._fill(features, ids)

    def _fill(self, features: npt.NDArray[np.float32], ids: Ids | None) -> npt.NDArray[np.float64]:
        if (online := self.data.models.online) is None:
            raise ValueError("there is no online model")
        if len(features):
            features[:, ONLINE] = online.predict(features, ids)
        return features[:, ONLINE].astype(np.float64)
