"""Source for a digest: the items with the most clicks of today and yesterday."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import WINDOWS
from headrace.serving.index.item_lists import DAYS
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class Best(Source):
    """The best of the last days. In a digest, what the user was shown or clicked rests however long ago."""

    name = "best"
    size = 300
    surfaces = frozenset({"digest"})
    why = "most read in the last days"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list."""
        return [self.data.trending.days[0][:k]]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks."""
        count = WINDOWS.read_one(c.stats[i : i + 1], query.now, "7d", "click", DAYS)[0]
        return f"{self.why} ({clicks(count)})"
