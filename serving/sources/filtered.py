"""Source: for a request with ``filters``, popular and new items that fit them.

The other sources look for the best items of all, of which few or none may fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import COUNTS
from headrace.serving.fits import NO_FILTERS, fits
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.streams.messages.ids import hash64, hash_many

U64 = npt.NDArray[np.uint64]

#: So many of the newest items are looked at.
_NEWEST = 1000
#: So many at least of each category.
_LEAST = 20


class Filtered(Source):
    """What fits of the popular lists, and of the newest items of what is asked for."""

    name = "filtered"
    size = 100
    why = "from what you are looking at"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return a list for each popular list, and two of the newest items; none without filters."""
        if query.request.filters == NO_FILTERS:
            return []
        lists = [self._fitting(query, keys)[:k] for keys in self._popular(query)]
        newest = self._fitting(query, self._newest(query))
        clicks = COUNTS.totals(self.data.stats.rows_of(newest), "click").astype(np.int64)
        return [*lists, newest[:k], newest[np.argsort(-clicks, kind="stable")[:k]]]

    def _popular(self, query: Query) -> Iterator[U64]:
        trending = self.data.trending
        if query.country:
            yield trending.country(query.country)[0]
        yield trending.hour[0]
        yield trending.days[0]
        yield trending.ever[0]

    def _newest(self, query: Query) -> U64:
        """Return new items of the categories that are asked for, else of the creators, else of all."""
        newest, asked = self.data.catalog.newest, query.request.filters
        if asked.category.any:
            names = dict.fromkeys(asked.category.any)
            each = max(_LEAST, _NEWEST // len(names))
            return np.concatenate([newest.by_category(hash64(name), query.now, each) for name in names])
        if asked.creator.any:
            return newest.of_creators(hash_many(asked.creator.any).tolist(), query.now, _NEWEST)
        return newest.newest(query.now, _NEWEST)

    def _fitting(self, query: Query, keys: U64) -> U64:
        """Return those of some items that fit, in the same order."""
        catalog = self.data.catalog
        rows = catalog.find(keys)
        keys, rows = keys[rows >= 0], rows[rows >= 0]
        return keys[fits(catalog, query.request.filters, keys, rows)]
