"""Source: the newest items of the creators that the user follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query

U64 = npt.NDArray[np.uint64]


class Followed(Source):
    """New from followed creators."""

    name = "followed"
    size = 50
    why = "from somebody you follow"
    surfaces = frozenset({"home", "digest"})

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list, the newest item first."""
        if query.user is None:
            return []
        creators = query.user["followed"][0]
        return [self.data.catalog.newest.of_creators(creators[creators != 0], query.now, k)]
