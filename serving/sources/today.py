"""Source: the items with the most clicks of the last six hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import WINDOWS
from headrace.serving.index.item_lists import HOURS
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class Today(Source):
    """Popular everywhere in the last hours. It is off unless the settings switch it on.

    On the first 20,000 clicks of Globo, it raises the share of next clicks among the candidates from .898 to
    .922, and lowers HR@20 from .677 to .669: the ranker learns from what was shown, and is a bad judge of the
    rarely clicked items that come with it.
    """

    name = "today"
    size = 1500
    on = False
    why = "popular today"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list."""
        return [self.data.trending.today[0][:k]]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks."""
        count = WINDOWS.read_one(c.stats[i : i + 1], query.now, "24h", "click", HOURS)[0]
        return f"{self.why} ({clicks(count)} in six hours)"
