"""Source: items close to the user's interests, from the whole catalogue (vector search in its snapshot)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.serving.pipeline.parts import NotReadyError, Source
from headrace.serving.pipeline.query import Query
from headrace.serving.sources.hot import close

U64 = npt.NDArray[np.uint64]


class Ann(Source):
    """Nearest items of every interest, however old; the interests share the size.

    Without a snapshot it proposes nothing. Vectors of different versions are not compared: while those of the
    snapshot are of another version than the user's, ``source:ann`` is in ``degraded``.
    """

    name = "ann"
    size = 200

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return a list for each interest."""
        catalog = self.data.catalog
        if catalog.base is None or not query.interests:
            return []
        if not catalog.searchable:
            raise NotReadyError(f"the snapshot's vectors are of version {catalog.base.snapshot.version}")
        share = max(1, k // max(1, len(query.interests)))
        return [catalog.nearest(vector, share) for vector in query.interests]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how close it is to the nearest interest; nothing of an item that is not close."""
        return close(query, c, i)
