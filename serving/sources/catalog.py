"""Source for a short list: the newest items of the catalogue, many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query

U64 = npt.NDArray[np.uint64]


class NewestOfAll(Source):
    """Whatever was published last, so that a list is never short for lack of clicks."""

    name = "catalog"
    size = 1000
    when_short = True

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list: room is left for what the request leaves out."""
        more = len(query.request.exclude) + len(query.request.seen) + 1
        return [self.data.catalog.newest.newest(query.now, k + more)]
