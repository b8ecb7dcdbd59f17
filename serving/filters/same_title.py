"""Late filter: of several items with the same title, the list has the first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import LateFilter
from headrace.serving.pipeline.query import Query

U64 = npt.NDArray[np.uint64]
#: Shorter titles are often the same for different items.
_SHORTEST = 12


class SameTitle(LateFilter):
    """The same story under two ids is shown once."""

    name = "same_title"

    def keep(self, query: Query, items: U64) -> npt.NDArray[np.bool_]:
        """Return which items have a title that none above them has, bool ``(n,)``."""
        seen: set[str] = set()
        out = np.ones(len(items), bool)
        for i, key in enumerate(items.tolist()):
            title = " ".join(self.data.catalog.title_of(key, "").lower().split())
            if len(title) >= _SHORTEST:
                out[i] = title not in seen
                seen.add(title)
        return out
