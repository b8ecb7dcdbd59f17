"""Source: the items with the most clicks of the last hour from the user's country."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks

U64 = npt.NDArray[np.uint64]


class Country(Source):
    """Popular in the user's country."""

    name = "country"
    size = 50
    why = "popular in your country"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list; none for an unknown country."""
        return [self.data.trending.country(query.country)[0][:k]] if query.country else []

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks from there."""
        return f"{self.why} ({clicks(c.country_clicks[i])} in the last hour)"
