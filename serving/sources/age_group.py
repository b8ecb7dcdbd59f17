"""Source: the items with the most clicks of the last hour from the user's age group in the country."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import place_key
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import clicks
from headrace.streams.messages.ages import age_group

U64 = npt.NDArray[np.uint64]


class AgeGroup(Source):
    """Popular with people of the user's age in the country; ``country`` and ``trending`` stand behind it."""

    name = "age_group"
    size = 30
    why = "popular with people of your age in your country"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list; none for an unknown country or age."""
        place = _place(query)
        return [self.data.trending.country(place)[0][:k]] if place else []

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say how many clicks of theirs."""
        count = self.data.stats.country_clicks(c.items[i : i + 1], _place(query), query.now)[0]
        return f"{self.why} ({clicks(count)} in the last hour)"


def _place(query: Query) -> int:
    group = age_group(query.age)
    return place_key(query.country, group) if group else 0
