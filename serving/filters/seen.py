"""Filter: what the caller says that the user has seen already, beside what the store knows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.key_sets import among
from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query
from headrace.streams.messages.ids import hash_many


class Seen(Filter):
    """Nothing that the caller has shown. It does not come back on a short list, as what rests does."""

    name = "seen"
    required = True
    needs_item = False

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items the request does not call seen, bool ``(n,)``."""
        if not query.request.seen:
            return np.ones(len(found), bool)
        return ~among(found.keys, hash_many(query.request.seen))
