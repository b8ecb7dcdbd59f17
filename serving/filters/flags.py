"""Filter: items with a flag that this installation does not show (``HEADRACE_BLOCKED_FLAGS``)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query


class Flags(Filter):
    """No blocked flag."""

    name = "flags"
    required = True

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items have no blocked flag, bool ``(n,)``."""
        out: npt.NDArray[np.bool_] = ~found.items["blocked"]
        return out
