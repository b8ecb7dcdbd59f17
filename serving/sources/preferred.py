"""Source: new items of the categories that the user named as preferred (onboarding)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query

U64 = npt.NDArray[np.uint64]


class Preferred(Source):
    """For every preferred category, its newest items."""

    name = "preferred"
    size = 40
    why = "new in a category you chose"
    surfaces = frozenset({"home", "digest"})

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return a list for each category; the categories share the size."""
        if query.user is None:
            return []
        categories = [int(c) for c in query.user["preferred"][0] if c]
        share = max(5, k // max(1, len(categories)))
        return [self.data.catalog.newest.by_category(c, query.now, share) for c in categories]
