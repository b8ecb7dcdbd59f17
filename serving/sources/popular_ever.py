"""Source for a short list: the items with the most clicks of all time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import COUNTS
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class PopularEver(Source):
    """Popular with everybody."""

    name = "popular"
    size = 300
    why = "popular with everybody"
    when_short = True

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list."""
        return [self.data.trending.ever[0][:k]]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks."""
        return f"{self.why} ({clicks(COUNTS.totals(c.stats[i : i + 1], 'click')[0])})"
