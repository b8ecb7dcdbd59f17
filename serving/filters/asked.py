"""Filter: what the request asks for with ``filters``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.fits import fits
from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query


class Asked(Filter):
    """Items of the categories, creators, languages, tags and times that the caller wants."""

    name = "asked"
    required = True

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items fit, bool ``(n,)``."""
        return fits(self.data.catalog, query.request.filters, found.keys, found.rows)
