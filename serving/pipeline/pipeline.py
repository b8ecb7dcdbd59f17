"""The pipeline from a request to its candidates: ask every source, merge, filter, bring back what rests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.state.key_sets import among
from headrace.serving.catalog_reads import columns_in
from headrace.serving.pipeline import checked
from headrace.serving.pipeline.build import PARTS, chosen, plugins
from headrace.serving.pipeline.guard import Guarded, PartCounts
from headrace.serving.pipeline.merge import Proposals
from headrace.serving.pipeline.parts import Filter, LateFilter, Part, Rest, Scorer, Source
from headrace.serving.pipeline.query import Found, Query, ServingData

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

P = TypeVar("P", bound=Part)
#: Source of the items that rest and came back, and of those that the caller wants ranked.
REPEATED, GIVEN = "repeated", "given"
_NONE = np.zeros(0, np.uint64)


@dataclass(slots=True)
class Pool:
    """The candidates of one request.

    Attributes
    ----------
    candidates
        The candidates and their data, arrays ``(n,)``, in ascending order of the key.
    mask
        The sources that proposed each one: bit i stands for ``names[i]``; uint32 ``(n,)``.
    catalog_rows
        Their rows in the catalogue, int64 ``(n,)``.
    items
        What the catalogue has of them, ``catalog_row.ROW`` ``(n,)``; ``BLANK`` for one that it does not know.
    repeated
        Places of the candidates that rest and came back, int64 ``(m,)``: they come last on the list, in this
        order.
    names
        Names of the sources.
    places
        Their places in the order of the request, int64 ``(n,)``; None when sources proposed them.
    filtered
        By label of each filter, how many items it was given and kept.
    """

    candidates: Candidates
    mask: U32
    catalog_rows: I64
    items: npt.NDArray[np.void]
    repeated: I64
    names: tuple[str, ...]
    places: I64 | None = None
    filtered: tuple[tuple[str, int, int], ...] = ()

    def sources(self, i: int) -> list[str]:
        """Return the names of the sources of candidate ``i``."""
        return named(int(self.mask[i]), self.names)

    def sources_at(self, places: I64) -> list[list[str]]:
        """Return ``sources`` of several candidates."""
        return each_named(self.mask[places].tolist(), self.names)


def named(mask: int, names: tuple[str, ...]) -> list[str]:
    """Return the names of the sources in a mask."""
    return list(_named(mask, names))


def each_named(masks: Sequence[int], names: tuple[str, ...]) -> list[list[str]]:
    """Return ``named`` of several masks."""
    known = {mask: _named(mask, names) for mask in set(masks)}
    return [list(known[mask]) for mask in masks]


@lru_cache(maxsize=4096)
def _named(mask: int, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for bit, name in enumerate(names) if mask >> bit & 1)


class Pipeline:
    """The parts that an installation uses.

    Parameters
    ----------
    data
        What the parts read; ``data.policy`` says which parts are on.
    clock
        Monotonic seconds.

    Attributes
    ----------
    names
        Names of the sources, in the order of their bits in a mask.
    scorers
        The scorers, the best one first.
    """

    def __init__(self, data: ServingData, clock: Callable[[], float] = time.perf_counter) -> None:
        self.data = data
        self._clock = clock
        policy = data.policy
        parts = chosen([*PARTS, *plugins(policy.plugins)], policy.parts)
        limit_s = policy.part_ms / 1000

        made = [part(data) for part, _ in parts]

        def guarded(kind: Callable[..., P]) -> list[Guarded[P]]:
            of_kind = (cast("P", part) for part in made if kind in type(part).__mro__)
            return [Guarded(part, limit_s, clock) for part in of_kind]

        self._sources: list[Guarded[Source]] = guarded(Source)
        self._sizes = {part.name: size for part, size in parts if issubclass(part, Source)}
        self._filters: list[Guarded[Filter]] = guarded(Filter)
        self._rests: list[Guarded[Rest]] = guarded(Rest)
        self._late: list[Guarded[LateFilter]] = guarded(LateFilter)
        self.scorers: list[Guarded[Scorer]] = guarded(Scorer)
        self.names = (*(s.part.name for s in self._sources), REPEATED, GIVEN)

    def counts(self) -> dict[str, PartCounts]:
        """Return what every part did, by label."""
        every: list[Guarded[Any]] = [*self._sources, *self._filters, *self._rests, *self.scorers, *self._late]
        return {part.label: part.counts for part in every}

    def gather(self, query: Query) -> Pool:
        """Return at most ``query.limit`` candidates that may be shown."""
        resting = self._resting(query)
        proposals = Proposals()
        self._ask(query, proposals, short=False)
        found, seen = self._showable(query, proposals, resting)
        if len(found) < query.wanted:
            self._ask(query, proposals, short=True)
            found, seen = self._showable(query, proposals, resting)
        again = _NONE
        if len(found) < query.wanted and len(resting):
            again = self._again(query, resting, query.wanted - len(found))
            proposals.add(len(self._sources), again)
            found, seen = self._showable(query, proposals, resting[~among(resting, again)])
        self._count(seen)
        if len(found) > query.limit:
            found = found.where(np.sort(np.argpartition(-found.strength, query.limit)[: query.limit]))
        pool = Pool(
            self._candidates(query, found),
            found.mask,
            found.rows,
            found.items,
            np.searchsorted(found.keys, again),
            self.names,
            None if query.given is None else query.given.places_of(found.keys),
            tuple((one.label, given, kept) for one, given, kept in seen),
        )
        self.data.stages.done("candidates")
        return pool

    def proposed(self, query: Query) -> tuple[U64, U32, F64]:
        """Return all that the sources propose, those for a short list too; see ``Proposals.merged``."""
        proposals = Proposals()
        self._ask(query, proposals, short=False)
        self._ask(query, proposals, short=True)
        return proposals.merged(query.limit)

    def showable(self, query: Query, keys: U64, mask: U32) -> Found:
        """Return those of some items that may be shown, in ascending order of the key, and do not rest."""
        found, seen = self._filtered(query, (keys, mask, np.zeros(len(keys))), self._resting(query))
        self._count(seen)
        return found

    def names_of(self, mask: int) -> list[str]:
        """Return the names of the sources in a mask."""
        return named(mask, self.names)

    def given(self, query: Query, keys: U64) -> Pool:
        """Return items of the catalogue as a pool, without sources and filters; ``keys`` ascend."""
        n = len(keys)
        found = Found.of(self.data.catalog, keys, np.zeros(n, np.uint32), np.zeros(n))
        candidates = self._candidates(query, found)
        return Pool(candidates, found.mask, found.rows, found.items, np.zeros(0, np.int64), self.names)

    def sources_of(self, pool: Pool, i: int) -> list[Source]:
        """Return the sources that proposed candidate ``i`` of a pool."""
        mask = int(pool.mask[i])
        return [source.part for bit, source in enumerate(self._sources) if mask >> bit & 1]

    def late(self, query: Query, items: U64) -> tuple[Bool, Bool]:
        """Return what the late filters say of a finished list (in its order).

        Returns
        -------
        must, should
            Which items no required filter removes, and which no filter removes at all, bool ``(n,)`` each.
        """
        must, should = np.ones(len(items), bool), np.ones(len(items), bool)
        for late in self._late:
            keep = late.run(lambda part: checked.mask(part.keep(query, items), len(items)), query.left_out)
            if keep is None:
                keep = np.full(len(items), not late.part.required)
            late.counts.given += len(items)
            late.counts.kept += int(np.count_nonzero(keep))
            should &= keep
            if late.part.required:
                must &= keep
        return must, should

    @property
    def late_filters(self) -> tuple[str, ...]:
        """Names of the late filters."""
        return tuple(late.part.name for late in self._late)

    def shown(self, mask: U32) -> None:
        """Count the items that came onto a list, by source; ``mask`` is uint32 ``(n,)``, of the slots."""
        bits = np.unpackbits(mask.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
        for source, count in zip(self._sources, bits.sum(0).tolist(), strict=False):  # 32 bits
            source.counts.shown += count

    # -- steps

    def _ask(self, query: Query, proposals: Proposals, *, short: bool) -> None:
        """Ask the sources, those for a short list or the others, until the time for it is over.

        What the caller wants ranked is all there is.
        """
        if query.given is not None:
            proposals.add(len(self._sources) + 1, query.given.keys)
            return
        until = self._clock() + self.data.policy.candidates_ms / 1000
        for number, source in enumerate(self._sources):
            part = source.part
            if part.when_short is not short or query.request.surface not in part.surfaces:
                continue
            if self._clock() > until and not short:
                source.skip(query.left_out)
                continue
            size = query.policy.sizes.get(part.name, self._sizes[part.name])
            size = size if short else math.ceil(query.share * size)
            if not size:
                continue
            lists = source.run(lambda part: checked.lists(part.propose(query, size)), query.left_out)  # noqa: B023
            source.counts.kept += proposals.add(number, *(lists or ()))
        self.data.stages.done("sources")

    def _resting(self, query: Query) -> U64:
        """Return the keys of all items that rest, each once, the one that may come back first in front."""
        lists = [
            rest.run(lambda part: checked.keys(part.resting(query)), query.left_out) for rest in self._rests
        ]
        keys = dict[int, None]()
        for found in lists:
            if found is not None:
                keys |= dict.fromkeys(found.tolist())
        out = np.fromiter(keys, np.uint64, len(keys))
        return out if query.given is None else out[among(out, query.given.keys)]

    def _showable(
        self, query: Query, proposals: Proposals, resting: U64
    ) -> tuple[Found, list[tuple[Guarded[Filter], int, int]]]:
        """Merge the proposals; keep what does not rest and passes every filter.

        Returns
        -------
        The items, and how many each filter was given and kept.
        """
        merged = proposals.merged(query.limit)
        self.data.stages.done("merge")
        return self._filtered(query, merged, resting)

    def _filtered(
        self, query: Query, merged: tuple[U64, U32, F64], resting: U64
    ) -> tuple[Found, list[tuple[Guarded[Filter], int, int]]]:
        """Keep what does not rest and passes every filter; see ``_showable``."""
        keys, mask, strength = merged
        catalog = self.data.catalog
        rows = catalog.find(keys)
        there = rows >= 0
        if query.given is not None:
            there |= ~catalog.withdrawn(keys)
        at = np.flatnonzero(there & ~among(keys, resting))
        rows = rows[at]
        found = Found(keys[at], mask[at], strength[at], rows, catalog.items(rows))
        seen = []
        for one in self._filters:
            keep = one.run(lambda part: checked.mask(_kept(part, query, found), len(found)), query.left_out)  # noqa: B023
            if keep is None:
                if not one.part.required:
                    continue
                keep = np.zeros(len(found), bool)
            kept = int(np.count_nonzero(keep))
            seen.append((one, len(found), kept))
            if kept < len(found):
                found = found.where(keep)
        self.data.stages.done("filters")
        return found, seen

    def _again(self, query: Query, resting: U64, count: int) -> U64:
        """Return the first ``count`` resting items that pass the filters, uint64 ``(<=count,)``."""
        proposals = Proposals()
        proposals.add(len(self._sources), resting)
        found, _ = self._showable(query, proposals, _NONE)
        out: U64 = resting[among(resting, found.keys)][:count]
        return out

    @staticmethod
    def _count(seen: Sequence[tuple[Guarded[Filter], int, int]]) -> None:
        for one, given, kept in seen:
            one.counts.given += given
            one.counts.kept += kept

    def _candidates(self, query: Query, found: Found) -> Candidates:
        """Return the inputs of the features."""
        stats = self.data.stats
        category, creator, language, published, duration = columns_in(found.items)
        return Candidates(
            items=found.keys,
            stats=stats.rows_of(found.keys),
            category=category,
            creator=creator,
            published=published,
            duration=duration,
            language=language,
            vectors=self.data.catalog.vectors_at(found.rows, found.keys),
            country_clicks=stats.country_clicks(found.keys, query.country, query.now),
            next_total=query.pairs.next_total,
            **query.pairs.columns(found.keys),
        )


def _kept(part: Filter, query: Query, found: Found) -> Bool:
    """Return which items a filter keeps, bool ``(n,)``: all that it would need the catalogue for."""
    if query.given is None or not part.needs_item:
        return part.keep(query, found)
    known = found.rows >= 0
    out = np.ones(len(found), bool)
    out[known] = part.keep(query, found.where(known))
    return out
