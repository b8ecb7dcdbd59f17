"""Filter: the items that the request excludes, and the open item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query
from headrace.streams.messages.ids import hash_many


class Excluded(Filter):
    """Not what the caller does not want."""

    name = "excluded"
    required = True
    needs_item = False

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items the request does not exclude, bool ``(n,)``."""
        out, excluded = np.ones(len(found), bool), [*query.request.exclude, query.request.item_id]
        if len(found) and any(excluded):
            gone = hash_many(excluded)
            at = np.minimum(np.searchsorted(found.keys, gone), len(found) - 1)
            out[at[found.keys[at] == gone]] = False
        return out
