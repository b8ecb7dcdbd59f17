"""Source: the items with the most clicks of the last day from the user's country."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import WINDOWS, country_key
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class CountryToday(Source):
    """Popular in the user's country in the last day: what few people click, somebody near has clicked."""

    name = "country_today"
    size = 200
    why = "popular in your country today"
    unsaid_beside = frozenset({"country"})

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list; none for an unknown country."""
        return [self.data.trending.country_today(query.country)[0][:k]] if query.country else []

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks from there."""
        table = self.data.stats.countries
        rows = table.find(country_key(c.items[i : i + 1], np.array([query.country], np.uint64)))
        count = WINDOWS.read_one(table.data, query.now, "24h", "click", rows=rows)[0]
        return f"{self.why} ({clicks(count)} in 24 hours)"
