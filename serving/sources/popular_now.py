"""Source: the items with the most clicks of the last hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import WINDOWS
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class PopularNow(Source):
    """Popular everywhere in the last hour."""

    name = "trending"
    size = 200
    why = "popular in the last hour"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list."""
        return [self.data.trending.hour[0][:k]]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks."""
        return f"{self.why} ({clicks(WINDOWS.read_one(c.stats[i : i + 1], query.now, '1h', 'click')[0])})"
