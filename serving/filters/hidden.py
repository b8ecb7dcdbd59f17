"""Filter: what the user hid, items and creators."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.key_sets import among
from headrace.models.state.shown import hidden
from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query


class Hidden(Filter):
    """Neither a hidden item nor one of a hidden creator."""

    name = "hidden"
    required = True
    needs_item = False

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items the user did not hide, bool ``(n,)``."""
        if query.user is None:
            return np.ones(len(found), bool)
        items, creators = hidden(query.user[0])
        out = np.ones(len(found), bool)
        if len(items):
            out &= ~among(found.keys, items)
        if len(creators):
            out &= ~among(found.items["creator"], creators)
        return out
