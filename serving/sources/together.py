"""Source: the items that were clicked in the same sessions as the session's clicks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import quoted

U64 = npt.NDArray[np.uint64]


class Together(Source):
    """For every anchor, what it was clicked together with: lately, and ever."""

    name = "together"
    size = 100

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return two lists for each anchor."""
        pairs = query.pairs
        return [*pairs.strongest(pairs.together_recent, k), *pairs.strongest(pairs.together, k)]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Name the anchor with which it was clicked most often."""
        at, _ = query.pairs.strongest_anchor(int(c.items[i]), query.pairs.together)
        return (
            ""
            if at < 0
            else f"read together with {quoted(self.data.catalog.title_of(query.anchors.items[at]))}"
        )
