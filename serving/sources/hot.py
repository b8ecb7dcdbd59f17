"""Source: new items close to the user's interests (vector search in the hot index)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query

U64 = npt.NDArray[np.uint64]

#: An item is called similar when the inner product of the unit vectors is above this.
_CLOSE = 0.3


class Hot(Source):
    """Nearest new items of every interest; the interests share the size."""

    name = "hot"
    size = 200

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return a list for each interest."""
        share = max(1, k // max(1, len(query.interests)))
        return [self.data.hot.search(vector, share)[0] for vector in query.interests]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how close it is to the nearest interest; nothing of an item that is not close."""
        return close(query, c, i)


def close(query: Query, c: Candidates, i: int) -> str:
    """Say how close a candidate is to the nearest interest; nothing of one that is not close."""
    near = max((float(c.vectors[i] @ vector) for vector in query.interests), default=0.0)
    return f"similar to what you opened lately ({near:.2f} of 1)" if near > _CLOSE else ""
