"""Late filter: of several items with the same title, the list has the first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

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
        return first_of_title([comparable(self.data.catalog.title_of(key, "")) for key in items.tolist()])


@lru_cache(maxsize=4096)
def comparable(title: str) -> str:
    """Return a title as it is compared with others; empty when it is too short for that."""
    plain = " ".join(title.lower().split())
    return plain if len(plain) >= _SHORTEST else ""


def first_of_title(titles: Sequence[str | int]) -> npt.NDArray[np.bool_]:
    """Return which items have a title that none above them has, bool ``(n,)``; "" and 0: no title."""
    seen: set[str | int] = set()
    out = np.ones(len(titles), bool)
    for i, title in enumerate(titles):
        if title:
            out[i] = title not in seen
            seen.add(title)
    return out
