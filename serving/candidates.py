"""Candidate sources and their merge: who might be shown, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models import item_stats
from models.features import Candidates
from models.item_stats import ItemStats
from serving.catalog import Catalog
from serving.hot_index import HotIndex
from serving.trending import Trending

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: Bit i of a candidate's mask says that ``SOURCES[i]`` proposed it.
SOURCES = ("next", "together", "hot", "trending", "rising", "country", "new", "popular", "catalog")
NEXT, TOGETHER, HOT, TRENDING, RISING, COUNTRY, NEW, POPULAR, CATALOG = range(len(SOURCES))
#: How many of the newest items fill a list that nothing else fills.
_FILL = 1000
#: Clicks further back in the session say less (Globo reference: 0.8).
FADE = 0.8


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
    """What the list should be close to: items newest first, with their neighbour rows (blank where unknown)."""

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


def _neighbours(row: np.void, weight_field: str, k: int) -> tuple[U64, F32]:
    weight = row[weight_field]
    keep = np.flatnonzero(weight > 0)
    if len(keep) > k:
        keep = keep[np.argpartition(-weight[keep], k - 1)[:k]]
    return row["other"][keep], weight[keep]


def _pair_scores(
    anchors: Anchors, budget: Budget
) -> tuple[list[tuple[int, U64]], dict[str, list[tuple[U64, F32]]]]:
    """Return the proposals of the pair sources and the scores they give."""
    proposals: list[tuple[int, U64]] = []
    scores: dict[str, list[tuple[U64, F32]]] = {
        "next": [],
        "share": [],
        "share_2": [],
        "share_all": [],
        "together": [],
    }
    if anchors.rows is None:
        return proposals, scores
    for k, row in enumerate(anchors.rows):
        if row["seq_total"] > 0:
            items, weight = _neighbours(row, "seq", budget.neighbours)
            share = weight / row["seq_total"]
            proposals.append((NEXT, items))
            if k == 0:
                scores["next"].append((items, weight))
            if k < 2:
                scores["share" if k == 0 else "share_2"].append((items, share))
            scores["share_all"].append((items, share * np.float32(FADE**k)))
        if row["co_total"] > 0:
            items, weight = _neighbours(row, "co", budget.neighbours)
            proposals.append((TOGETHER, items))
            faded = weight * np.float32(FADE**k) / np.sqrt(1 + row["co_total"])
            scores["together"].append((items, faded))
    return proposals, scores


class Retriever:
    """Asks every source, merges, filters, and gathers what ranking needs."""

    def __init__(
        self, catalog: Catalog, stats: ItemStats, trending: Trending, hot: HotIndex, budget: Budget | None = None
    ) -> None:
        self._catalog = catalog
        self._stats = stats
        self._trending = trending
        self._hot = hot
        self._budget = budget or Budget()
        self._new: U64 = np.zeros(0, np.uint64)
        self._new_at = -1

    def _newest(self, now: int) -> U64:
        """Return the most recently published items, newest first; they are looked up once a second."""
        if self._new_at < 0 or abs(now - self._new_at) >= 1000:
            self._new_at = now
            table = self._catalog.table
            rows = table.rows()
            published = table.data["published"][rows]
            rows = rows[published <= now]
            k = max(self._budget.new, _FILL)
            published = table.data["published"][rows]
            if len(rows) > k:
                rows = rows[np.argpartition(-published, k)[:k]]
            self._new = table.data["key"][rows[np.argsort(-table.data["published"][rows])]]
        return self._new

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
            Upper bound; sources that propose strongest (pairs, vectors) are kept first.
        wanted
            Fewer candidates than this are filled up with what was ever popular, then with the catalogue's newest.
        """
        b = self._budget
        self._trending.refresh(now)
        proposals, scores = _pair_scores(anchors, b)
        for vector in interests:
            proposals.append((HOT, self._hot.search(vector, max(1, b.hot // len(interests)))[0]))
        proposals.append((TRENDING, self._trending.hour[0][: b.trending]))
        proposals.append((RISING, self._trending.rising[0][: b.rising]))
        if country:
            proposals.append((COUNTRY, self._trending.country(country)[0][: b.country]))
        proposals.append((NEW, self._newest(now)[: b.new]))
        keys, mask, rows = self._showable(proposals, exclude, country, age, now)
        if len(keys) < wanted:
            proposals += [(POPULAR, self._trending.ever[0]), (CATALOG, self._newest(now))]
            keys, mask, rows = self._showable(proposals, exclude, country, age, now)
        keys, mask, rows = keys[:limit], mask[:limit], rows[:limit]
        candidates = self._fill(keys, rows, scores, country, now)
        if anchors.rows is not None and len(anchors.rows):
            candidates.next_total = float(anchors.rows[0]["seq_total"])
        return Pool(candidates, mask, rows)

    def _showable(
        self, proposals: list[tuple[int, U64]], exclude: list[int], country: int, age: int, now: int
    ) -> tuple[U64, npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
        """Return keys, source masks and catalogue rows of the proposals that may be shown."""
        keys, mask = self._merge(proposals, exclude)
        rows = self._catalog.table.find(keys)
        keep = rows >= 0
        keys, mask, rows = keys[keep], mask[keep], rows[keep]
        keep = self._catalog.allowed(rows, country, age)
        keep &= self._catalog.table.data["published"][rows] <= now
        return keys[keep], mask[keep], rows[keep]

    @staticmethod
    def _merge(proposals: list[tuple[int, U64]], exclude: list[int]) -> tuple[U64, npt.NDArray[np.uint16]]:
        """Return distinct keys in order of first proposal, and their source masks."""
        lists = [items for _, items in proposals]
        every = np.concatenate(lists) if lists else np.zeros(0, np.uint64)
        bit = np.repeat([1 << s for s, _ in proposals], [len(x) for x in lists]).astype(np.uint16)
        keys, first, where = np.unique(every, return_index=True, return_inverse=True)
        mask = np.zeros(len(keys), np.uint16)
        np.bitwise_or.at(mask, where, bit)
        good = keys != 0
        if exclude:
            good &= ~np.isin(keys, np.array(exclude, np.uint64))
        order = np.argsort(first[good], kind="stable")
        return keys[good][order], mask[good][order]

    def _fill(
        self,
        keys: U64,
        rows: npt.NDArray[np.int64],
        scores: dict[str, list[tuple[U64, F32]]],
        country: int,
        now: int,
    ) -> Candidates:
        n = len(keys)
        found = self._stats.table.find(keys)
        if n and found.min() >= 0:
            stats = self._stats.table.data[found]
        else:
            stats = np.full(n, item_stats.BLANK, item_stats.ROW)
            stats[found >= 0] = self._stats.table.data[found[found >= 0]]
        place = {key: i for i, key in enumerate(keys.tolist())}
        column = {}
        for name, parts in scores.items():
            out = np.zeros(n, np.float32)
            for items, value in parts:
                at = np.array([place.get(k, -1) for k in items.tolist()], np.int64)
                ok = at >= 0
                out[at[ok]] += value[ok]  # items do not repeat within one neighbour row
            column[name] = out
        data = self._catalog.table.data
        return Candidates(
            items=keys,
            stats=stats,
            category=data["category"][rows],
            creator=data["creator"][rows],
            published=data["published"][rows],
            vectors=data["vector"][rows],
            country_clicks=self._stats.country_clicks(keys, country, now),
            next_score=column["next"],
            next_share=column["share"],
            next_share_2=column["share_2"],
            together=column["together"],
            next_share_all=column["share_all"],
        )
