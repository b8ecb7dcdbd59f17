"""Late filter: of several items with the same title, the list has the first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.given import or_blank
from headrace.serving.pipeline.parts import LateFilter
from headrace.serving.pipeline.query import Query

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
        catalog = self.data.catalog
        titles: npt.NDArray[np.uint32] = or_blank(partial(catalog.column, "title"), catalog.find(items))
        return first_of_title(titles.tolist())


def first_of_title(titles: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return which items have a title that none above them has, bool ``(n,)``; 0: no title."""
    given = list(filter(None, titles))
    out = np.ones(len(titles), bool)
    if len(set(given)) == len(given):
        return out
    seen = set[int]()
    for i, title in enumerate(titles):
        if title:
            out[i] = title not in seen
            seen.add(title)
    return out
