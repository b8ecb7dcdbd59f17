"""Late filter: of several items with the same title, the list has the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import LateFilter
from headrace.serving.pipeline.query import Query
from headrace.serving.titles import comparable

U64 = npt.NDArray[np.uint64]


class SameTitle(LateFilter):
    """The same story under two ids is shown once.

    While the list is made, a rule keeps other items with a title on it away (``rerank/same_title.py``), as
    long as this part is on: so the propensities are those of the list as it is. Here go what comes back at
    the end, and what the rule let through for want of others.
    """

    name = "same_title"

    def keep(self, query: Query, items: U64) -> npt.NDArray[np.bool_]:
        """Return which items have a title that none above them has, bool ``(n,)``."""
        return first_of_title([comparable(self.data.catalog.title_of(key, "")) for key in items.tolist()])


def first_of_title(titles: Sequence[str | int]) -> npt.NDArray[np.bool_]:
    """Return which items have a title that none above them has, bool ``(n,)``; "" and 0: no title."""
    seen: set[str | int] = set()
    out = np.ones(len(titles), bool)
    for i, title in enumerate(titles):
        if title:
            out[i] = title not in seen
            seen.add(title)
    return out
