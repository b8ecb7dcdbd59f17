"""Rule: an item is shown only where and to whom its owner allows it (countries, minimum age)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.catalog import Catalog
from headrace.streams.messages.countries import same_country
from headrace.streams.tables.rows import Rows


def allowed(catalog: Catalog, rows: Rows, country: int, age: int) -> npt.NDArray[np.bool_]:
    """Return which rows of the catalogue may be shown to a user, bool ``(n,)``.

    Parameters
    ----------
    catalog
        The items.
    rows
        Rows of ``catalog.table``, int64 ``(n,)``.
    country
        Hash of the country as it was written; 0 is unknown. Items with country rules are not shown then.
    age
        In years; -1 is unknown. Items with a minimum age are not shown then.
    """
    data = catalog.table.data
    country = same_country(country)
    out: npt.NDArray[np.bool_] = data["min_age"][rows] <= max(age, 0)
    for i in np.flatnonzero(data["rules"][rows]):
        out[i] &= catalog.allowed_in(int(data["key"][rows[i]]), country)
    return out
