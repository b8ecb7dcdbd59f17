"""Source: for a related list, other items of the creator of the open item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query

U64 = npt.NDArray[np.uint64]


class SameCreator(Source):
    """More from the same creator."""

    name = "creator"
    size = 30
    why = "from the same creator"
    surfaces = frozenset({"related"})

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list, the newest item first."""
        creator = query.context.last_creator
        return [self.data.catalog.newest.by_creator(creator, query.now, k)] if creator else []
