"""Source: the items that users opened next after the session's clicks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import percent, quoted

U64 = npt.NDArray[np.uint64]


class Next(Source):
    """For every anchor, its most frequent next clicks."""

    name = "next"
    size = 100

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return a list for each anchor."""
        return query.pairs.strongest(query.pairs.seq, k)

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Name the anchor after which it was opened most often, and the share of those next clicks."""
        at, share = query.pairs.strongest_anchor(int(c.items[i]), query.pairs.seq)
        if at < 0:
            return ""
        title = quoted(self.data.catalog.title_of(query.anchors.items[at]))
        return f"often opened after {title} ({percent(float(query.pairs.share[share]))} of the next clicks)"
