"""Source: the items with the most clicks of the last six hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import WINDOWS
from headrace.serving.index.item_lists import HOURS
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class Today(Source):
    """Popular everywhere in the last hours: what the other sources have no place for."""

    name = "today"
    size = 500
    why = "popular today"
    unsaid_beside = frozenset({"trending"})

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list."""
        return [self.data.trending.today[0][:k]]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks."""
        count = WINDOWS.read_one(c.stats[i : i + 1], query.now, "24h", "click", HOURS)[0]
        return f"{self.why} ({clicks(count)} in six hours)"
