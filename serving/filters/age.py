"""Filter: an item with a minimum age is shown only to users who are known to be old enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query


class MinimumAge(Filter):
    """Old enough."""

    name = "age"
    required = True

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items the user is old enough for, bool ``(n,)``."""
        out: npt.NDArray[np.bool_] = found.items["min_age"] <= max(query.age, 0)
        return out
