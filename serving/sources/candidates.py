"""Candidate sources and their merge: who might be shown, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.features import Candidates
from headrace.models.state import items as item_state
from headrace.models.state.items import ItemState
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.serving.sources.trending import Trending

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]

#: Bit i of a candidate's mask says that ``SOURCES[i]`` proposed it.
SOURCES = ("next", "together", "hot", "trending", "rising", "country", "new", "popular", "catalog")
NEXT, TOGETHER, HOT, TRENDING, RISING, COUNTRY, NEW, POPULAR, CATALOG = range(len(SOURCES))
#: How many of the newest items fill a list that nothing else fills.
_FILL = 1000
#: Clicks further back in the session say less (Globo reference: 0.8).
FADE = 0.8
_BITS = (1 << np.arange(len(SOURCES), dtype=np.uint16))[:, None]
#: 1 / (60 + rank), the constant of the paper.
_RECIPROCAL = 1 / (61.0 + np.arange(10_000))


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
class Anchors:
    """What the list should be close to: items newest first, with their neighbour rows (or blank ones)."""

    items: list[int] = field(default_factory=list)
    rows: npt.NDArray[np.void] | None = None  # neighbours.ROW (len(items),)


@dataclass(slots=True)
class Pool:
    """Merged candidates: ``mask`` says which sources proposed each, uint16 ``(n,)``."""

    candidates: Candidates
    mask: npt.NDArray[np.uint16]
    catalog_rows: npt.NDArray[np.int64]

    def sources(self, i: int) -> list[str]:
        """Return the names of the sources of candidate ``i``."""
        bits = int(self.mask[i])
        return [name for b, name in enumerate(SOURCES) if bits >> b & 1]


@dataclass(slots=True)
class _Proposals:
    """Lists of keys, strongest first, one after the other."""

    sources: list[int] = field(default_factory=list)
    keys: list[U64] = field(default_factory=list)

    def add(self, source: int, keys: U64) -> None:
        """Append the list of one source."""
        if len(keys):
            self.sources.append(source)
            self.keys.append(keys)

    def merged(self, exclude: list[int]) -> tuple[U64, npt.NDArray[np.uint16], F64]:
        """Return the distinct keys, their source masks, and how strongly they were proposed, all ``(n,)``.

        Strength is reciprocal rank fusion (Cormack et al. 2009): sources need no common scale.
        """
        if not self.keys:
            return np.zeros(0, np.uint64), np.zeros(0, np.uint16), np.zeros(0)
        every = np.concatenate(self.keys)
        sizes = [len(k) for k in self.keys]
        keys, where = np.unique(every, return_inverse=True)
        gain = np.concatenate([_RECIPROCAL[:n] for n in sizes])
        strength = np.bincount(where, gain, len(keys)).astype(np.float64)
        bits = np.zeros((len(SOURCES), len(keys)), bool)
        bits[np.repeat(self.sources, sizes), where] = True
        mask: npt.NDArray[np.uint16] = (bits * _BITS).sum(0, dtype=np.uint16)
        gone = np.array([0, *exclude], np.uint64)
        at = np.minimum(np.searchsorted(keys, gone), len(keys) - 1)
        strength[at[keys[at] == gone]] = 0
        keep = strength > 0
        return keys[keep], mask[keep], strength[keep]


@dataclass(slots=True)
class _Pairs:
    """All neighbours of all anchors, in flat arrays."""

    anchor: npt.NDArray[np.int64]
    other: U64
    seq: F32
    share: F32
    together: F32
    next_total: float

    @classmethod
    def of(cls, rows: npt.NDArray[np.void] | None) -> _Pairs:
        """Read neighbour rows, the newest click's first."""
        if rows is None or not len(rows):
            empty = np.zeros(0, np.float32)
            return cls(np.zeros(0, np.int64), np.zeros(0, np.uint64), empty, empty, empty, 0.0)
        seq, co = rows["seq"], rows["co"]
        anchor, slot = np.nonzero((seq > 0) | (co > 0))
        seq, co = seq[anchor, slot], co[anchor, slot]
        seq_total, co_total = rows["seq_total"], rows["co_total"]
        share = seq / np.maximum(seq_total, np.float32(1e-9))[anchor]
        fade = (np.float32(FADE) ** np.arange(len(rows), dtype=np.float32)) / np.sqrt(1 + co_total)
        return cls(anchor, rows["other"][anchor, slot], seq, share, co * fade[anchor], float(seq_total[0]))

    def propose(self, to: _Proposals, k: int) -> None:
        """Add up to ``k`` neighbours of every anchor to the proposals, once by either strength."""
        if not len(self.anchor):
            return
        cuts = np.searchsorted(self.anchor, np.arange(1, self.anchor[-1] + 1))
        for source, weight in ((NEXT, self.seq), (TOGETHER, self.together)):
            for other, w in zip(np.split(self.other, cuts), np.split(weight, cuts), strict=True):
                order = np.argsort(-w, kind="stable")[:k]
                to.add(source, other[order[w[order] > 0]])

    def columns(self, keys: U64) -> dict[str, F32]:
        """Return what the pairs say of ``keys`` (sorted): fields of ``Candidates``, float32 ``(n,)``."""
        n = len(keys)
        at = np.minimum(np.searchsorted(keys, self.other), max(n - 1, 0))
        here = keys[at] == self.other if n else np.zeros(len(at), bool)
        at, anchor = at[here], self.anchor[here]
        seq, share, together = self.seq[here], self.share[here], self.together[here]
        first, second = anchor == 0, anchor == 1

        def total(where: npt.NDArray[np.int64], weight: F32) -> F32:
            return np.bincount(where, weight, n).astype(np.float32)

        return {
            "next_score": total(at[first], seq[first]),
            "next_share": total(at[first], share[first]),
            "next_share_2": total(at[second], share[second]),
            "next_share_all": total(at, share * np.float32(FADE) ** anchor.astype(np.float32)),
            "together": total(at, together),
        }


class Retriever:
    """Asks every source, merges, filters, and gathers what ranking needs."""

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
        self._new: U64 = np.zeros(0, np.uint64)
        self._new_at = -1

    def _new_items(self, now: int) -> U64:
        """Return the ``Budget.new`` newest items; they are looked up once a second."""
        if self._new_at < 0 or abs(now - self._new_at) >= 1000:
            self._new_at = now
            self._new = self._newest(now, self._budget.new)
        return self._new

    def _newest(self, now: int, k: int) -> U64:
        """Return the ``k`` most recently published items, newest first."""
        view = self._catalog.table.view()
        published = view["published"]
        rows = np.flatnonzero((published <= now) & (view["key"] != 0))
        if len(rows) > k:
            rows = rows[published[rows] >= np.partition(published[rows], -k)[-k]]
        newest: U64 = view["key"][rows[np.argsort(-published[rows], kind="stable")[:k]]]
        return newest

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
    ) -> Pool:
        """Return at most about ``limit`` candidates that may be shown.

        Parameters
        ----------
        anchors
            The session's clicks, or the item a related list is for.
        interests
            Vectors to search around, each float32 ``(DIM,)``.
        exclude
            Items never to propose.
        country, age
            Of the user; 0 and -1 where unknown.
        now
            Time asked, ms.
        limit
            Upper bound; what the most sources propose highest is kept.
        wanted
            Fewer candidates than this are filled up with what was ever popular and with the
            catalogue's newest.
        """
        b = self._budget
        self._trending.refresh(now)
        pairs = _Pairs.of(anchors.rows)
        proposals = _Proposals()
        pairs.propose(proposals, b.neighbours)
        for vector in interests:
            proposals.add(HOT, self._hot.search(vector, max(1, b.hot // len(interests)))[0])
        proposals.add(TRENDING, self._trending.hour[0][: b.trending])
        proposals.add(RISING, self._trending.rising[0][: b.rising])
        if country:
            proposals.add(COUNTRY, self._trending.country(country)[0][: b.country])
        proposals.add(NEW, self._new_items(now))
        keys, mask, strength, rows = self._showable(proposals, exclude, country, age, now)
        if len(keys) < wanted:
            proposals.add(POPULAR, self._trending.ever[0])
            proposals.add(CATALOG, self._newest(now, _FILL))
            keys, mask, strength, rows = self._showable(proposals, exclude, country, age, now)
        if len(keys) > limit:
            best = np.sort(np.argpartition(-strength, limit)[:limit])
            keys, mask, rows = keys[best], mask[best], rows[best]
        return Pool(self._fill(keys, rows, pairs, country, now), mask, rows)

    def _showable(
        self, proposals: _Proposals, exclude: list[int], country: int, age: int, now: int
    ) -> tuple[U64, npt.NDArray[np.uint16], F64, npt.NDArray[np.int64]]:
        """Return keys, source masks, strengths and catalogue rows of the proposals that may be shown."""
        keys, mask, strength = proposals.merged(exclude)
        rows = self._catalog.table.find(keys)
        keep = rows >= 0
        keep[keep] = self._catalog.allowed(rows[keep], country, age)
        keep &= self._catalog.table.data["published"][rows] <= now
        return keys[keep], mask[keep], strength[keep], rows[keep]

    def _fill(
        self, keys: U64, rows: npt.NDArray[np.int64], pairs: _Pairs, country: int, now: int
    ) -> Candidates:
        found = self._stats.table.find(keys)
        if len(keys) and found.min() >= 0:
            stats = self._stats.table.data[found]
        else:
            stats = np.full(len(keys), item_state.BLANK, item_state.ROW)
            stats[found >= 0] = self._stats.table.data[found[found >= 0]]
        data = self._catalog.table.data
        return Candidates(
            items=keys,
            stats=stats,
            category=data["category"][rows],
            creator=data["creator"][rows],
            published=data["published"][rows],
            vectors=data["vector"][rows],
            country_clicks=self._stats.country_clicks(keys, country, now),
            next_total=pairs.next_total,
            **pairs.columns(keys),
        )
