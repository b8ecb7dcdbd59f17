"""Candidates for one request: ask every source, merge, filter, add the inputs of ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import ItemState
from headrace.serving.catalog import Catalog
from headrace.serving.filters.audience import allowed
from headrace.serving.filters.excluded import not_excluded
from headrace.serving.filters.published import published
from headrace.serving.index.hot import HotIndex
from headrace.serving.sources.names import (
    CATALOG,
    COUNTRY,
    HOT,
    NEW,
    POPULAR,
    REPEATED,
    RISING,
    TRENDING,
    names_in,
)
from headrace.serving.sources.neighbours import Anchors, Pairs
from headrace.serving.sources.newest import Newest, newest
from headrace.serving.sources.proposals import Proposals
from headrace.serving.sources.trending import Trending

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]

_NONE = np.zeros(0, np.uint64)
#: The newest items that may be added when the sources propose too few candidates.
_FILL = 1000


@dataclass(frozen=True, slots=True)
class Budget:
    """How many candidates each source may propose."""

    neighbours: int = 100
    hot: int = 200
    trending: int = 200
    rising: int = 50
    country: int = 50
    new: int = 30


@dataclass(slots=True)
class Pool:
    """The candidates of one request.

    Attributes
    ----------
    candidates
        The candidates and their data, arrays ``(n,)``, in ascending order of the key.
    mask
        The sources that proposed each one, uint16 ``(n,)``.
    catalog_rows
        Their rows in the catalogue, int64 ``(n,)``.
    repeated
        Places of the candidates that the user clicked lately, int64 ``(m,)``: they come last on the list, in
        this order.
    """

    candidates: Candidates
    mask: U16
    catalog_rows: I64
    repeated: I64

    def sources(self, i: int) -> list[str]:
        """Return the names of the sources of candidate ``i``."""
        return names_in(int(self.mask[i]))


@dataclass(frozen=True, slots=True)
class _Viewer:
    """The inputs of the filters: excluded items, country, age and time."""

    exclude: Sequence[int]
    country: int
    age: int
    now: int


@dataclass(slots=True)
class _Showable:
    """Proposals that passed the filters, in ascending order of the key; arrays ``(n,)``."""

    keys: U64
    mask: U16
    strength: F64
    rows: I64

    def where(self, keep: npt.NDArray[np.bool_] | I64) -> _Showable:
        return _Showable(self.keys[keep], self.mask[keep], self.strength[keep], self.rows[keep])


class Retriever:
    """Finds the candidates of a request.

    Parameters
    ----------
    catalog, stats, trending, hot
        The data that the sources read.
    budget
        How many candidates each source may propose; the defaults when None.
    """

    def __init__(
        self,
        catalog: Catalog,
        stats: ItemState,
        trending: Trending,
        hot: HotIndex,
        budget: Budget | None = None,
    ) -> None:
        self._catalog = catalog
        self._stats = stats
        self._trending = trending
        self._hot = hot
        self._budget = budget or Budget()
        self._newest = Newest(catalog, self._budget.new)

    def gather(
        self,
        anchors: Anchors,
        interests: list[F32],
        *,
        exclude: list[int],
        country: int,
        age: int,
        now: int,
        limit: int,
        wanted: int = 0,
        clicked: Sequence[int] = (),
    ) -> Pool:
        """Return at most ``limit`` candidates that may be shown.

        Parameters
        ----------
        anchors
            The session's clicks, or the item of a related list.
        interests
            Vectors to search around, each float32 ``(DIM,)``.
        exclude
            Items that are not candidates.
        country, age
            Of the user; 0 and -1 when unknown.
        now
            Time asked, ms.
        limit
            Largest number of candidates; the strongest proposals are kept.
        wanted
            When there are fewer candidates than this, the items with the most clicks of all time and the
            newest items of the catalogue are added.
        clicked
            Items that are candidates only while there are fewer than ``wanted`` without them; the first ones
            first.
        """
        viewer = _Viewer([*exclude, *clicked], country, age, now)
        pairs = Pairs.of(anchors.rows)
        proposals = self._ask_sources(pairs, interests, country, now)
        found = self._showable(proposals, viewer)
        if len(found.keys) < wanted:
            proposals.add(POPULAR, self._trending.ever[0])
            proposals.add(CATALOG, newest(self._catalog, now, _FILL + len(viewer.exclude)))
            found = self._showable(proposals, viewer)
        again = _NONE
        if len(found.keys) < wanted and len(clicked):
            again = self._again(clicked, replace(viewer, exclude=exclude), wanted - len(found.keys))
            proposals.add(REPEATED, again)
            left_out = [*exclude, *(set(clicked) - set(again.tolist()))]
            found = self._showable(proposals, replace(viewer, exclude=left_out))
        if len(found.keys) > limit:
            found = found.where(np.sort(np.argpartition(-found.strength, limit)[:limit]))
        candidates = self._candidates(found, pairs, country, now)
        return Pool(candidates, found.mask, found.rows, np.searchsorted(found.keys, again))

    def _again(self, clicked: Sequence[int], viewer: _Viewer, count: int) -> U64:
        """Return the first ``count`` of ``clicked`` that may be shown, uint64 ``(<=count,)``."""
        keys = np.array(clicked, np.uint64)
        proposals = Proposals()
        proposals.add(REPEATED, keys)
        out: U64 = keys[np.isin(keys, self._showable(proposals, viewer).keys)][:count]
        return out

    def _ask_sources(self, pairs: Pairs, interests: list[F32], country: int, now: int) -> Proposals:
        b = self._budget
        self._trending.refresh(now)
        out = Proposals()
        pairs.propose(out, b.neighbours)
        for vector in interests:
            out.add(HOT, self._hot.search(vector, max(1, b.hot // len(interests)))[0])
        out.add(TRENDING, self._trending.hour[0][: b.trending])
        out.add(RISING, self._trending.rising[0][: b.rising])
        if country:
            out.add(COUNTRY, self._trending.country(country)[0][: b.country])
        out.add(NEW, self._newest.at(now))
        return out

    def _showable(self, proposals: Proposals, viewer: _Viewer) -> _Showable:
        """Merge the proposals; keep those of the catalogue that pass every filter."""
        keys, mask, strength = proposals.merged()
        rows = self._catalog.table.find(keys)
        known = (rows >= 0) & not_excluded(keys, viewer.exclude)
        found = _Showable(keys, mask, strength, rows).where(known)
        keep = allowed(self._catalog, found.rows, viewer.country, viewer.age)
        keep &= published(self._catalog, found.rows, viewer.now)
        return found.where(keep)

    def _candidates(self, found: _Showable, pairs: Pairs, country: int, now: int) -> Candidates:
        data = self._catalog.table.data
        return Candidates(
            items=found.keys,
            stats=self._stats.rows_of(found.keys),
            category=data["category"][found.rows],
            creator=data["creator"][found.rows],
            published=data["published"][found.rows],
            vectors=data["vector"][found.rows],
            country_clicks=self._stats.country_clicks(found.keys, country, now),
            next_total=pairs.next_total,
            **pairs.columns(found.keys),
        )
