"""Filter: only items of the catalogue, from their time of publication on. A withdrawn item is not in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query


class Published(Filter):
    """Neither withdrawn nor ahead of its time."""

    name = "published"
    required = True

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items are out at the time asked, bool ``(n,)``."""
        out = found.rows >= 0
        out &= found.items["published"] <= query.now
        return out
