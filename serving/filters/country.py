"""Filter: an item is shown only in the countries where its owner allows it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query
from headrace.streams.messages.countries import same_country


class CountryRules(Filter):
    """Allowed and blocked countries. With rules, an item is not shown in an unknown country."""

    name = "country"
    required = True

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items may be shown in the user's country, bool ``(n,)``."""
        out: npt.NDArray[np.bool_] = ~found.items["rules"]
        ruled = np.flatnonzero(found.items["rules"])
        if len(ruled):
            country = same_country(query.country)
            out[ruled] = self.data.catalog.all_allowed_in(found.keys[ruled], found.rows[ruled], country)
        return out
