"""The cheapest list: popular items, the same for all users of a country, held for a second.

All sources, also those for short lists, are asked once a second for each surface and country, for nobody in
particular. A request filters what is held by what is true now: withdrawn, hidden, excluded and resting items
are not on its list.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.models.features.inputs import RequestContext
from headrace.models.state.items import COUNTS, WINDOWS
from headrace.serving.pipeline.pairs import Anchors, Pairs
from headrace.serving.pipeline.pipeline import Pipeline, named
from headrace.serving.pipeline.query import Query
from headrace.serving.policy import Policy
from headrace.streams.messages.schemas import RecItem, RecRequest

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: How long what the sources proposed is held, s; and for how many surfaces and countries (callers name them).
HOLD_S, MOST_HELD = 1.0, 256
#: Most items that are held for each, and ids that are remembered: they are on list after list.
_MOST, _MOST_IDS = 1000, 20_000
#: The best of them are filtered first, so many for each slot and at least; the others when too few are left.
_PER_SLOT, _AT_LEAST = 3, 80
_NOWHERE = np.zeros(DIM, np.float32)


@dataclass(frozen=True, slots=True)
class Popular:
    """What a popular list is made from: items that may be shown, arrays ``(n,)``.

    Attributes
    ----------
    keys, mask
        The items, and the sources of each; ``names`` are the names of the sources.
    clicks, rank
        Clicks of the last hour, and where each is in the order by popularity; no two at one place.
    wanted
        Number of slots.
    """

    keys: U64
    mask: npt.NDArray[np.uint32]
    clicks: npt.NDArray[np.float32]
    rank: I64
    wanted: int
    names: tuple[str, ...]

    @property
    def order(self) -> I64:
        """Places of the items of the list, in its order."""
        out: I64 = np.argsort(self.rank)[: self.wanted]
        return out

    def items(
        self, id_of: Callable[[int], str], told: Callable[[int], list[str] | None] = lambda place: None
    ) -> list[RecItem]:
        """Return the items of the list; ``told`` says why an item is on it, by its place."""
        at = self.order
        columns = zip(
            at.tolist(), self.keys[at].tolist(), self.clicks[at].tolist(), self.mask[at].tolist(), strict=True
        )
        return [
            RecItem(
                item_id=id_of(key),
                score=float(clicks),
                objectives={},
                sources=named(mask, self.names),
                explored=False,
                propensity=1.0,
                why=told(place),
            )
            for place, key, clicks, mask in columns
        ]


@dataclass(frozen=True, slots=True)
class Held:
    """What the sources proposed; arrays ``(n,)``.

    Attributes
    ----------
    until
        When it is too old, s.
    keys, mask
        The items in ascending order of the key, and the sources of each.
    clicks, rank
        Clicks of the last hour, and the place of each in the order by popularity.
    order
        The places in that order.
    left_out
        Parts that could not be asked.
    firsts
        What ``first`` has returned, by the number.
    """

    until: float
    keys: U64
    mask: npt.NDArray[np.uint32]
    clicks: npt.NDArray[np.float32]
    rank: I64
    order: I64
    left_out: list[str]
    firsts: dict[int, tuple[U64, npt.NDArray[np.uint32]]] = field(default_factory=dict)

    def first(self, few: int) -> tuple[U64, npt.NDArray[np.uint32]]:
        """Return the most popular items in ascending order of the key, and the sources of each; kept."""
        if (known := self.firsts.get(few)) is None:
            best = np.sort(self.order[:few])
            known = self.firsts[few] = self.keys[best], self.mask[best]
        return known


def plain_query(
    request: RecRequest,
    now: int,
    country: int,
    age: int,
    policy: Policy,
    user: npt.NDArray[np.void] | None = None,
    shown: npt.NDArray[np.void] | None = None,
    settings: str = "",
) -> Query:
    """Return a query without what only a ranked list needs: anchors, interests, the user's vectors."""
    context = RequestContext(now, country, request.context.device, request.surface, _NOWHERE, _NOWHERE)
    n = request.n
    return Query(
        request,
        now,
        user,
        shown,
        Anchors(),
        Pairs.of(None),
        country,
        age,
        context,
        interests=[],
        limit=n,
        wanted=n,
        policy=policy,
        settings=settings,
    )


class PopularLists:
    """Makes popular lists from what is held.

    Parameters
    ----------
    pipeline
        Its sources, filters and rests are used.
    clock
        Monotonic seconds.

    Attributes
    ----------
    id_of
        Returns the id of an item that is in the catalogue, by its key.
    """

    def __init__(self, pipeline: Pipeline, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipeline, self._clock = pipeline, clock
        self.id_of = lru_cache(_MOST_IDS)(pipeline.data.catalog.id_of)
        self._held: dict[tuple[str, int, str], Held] = {}

    def found(self, query: Query) -> Popular | None:
        """Return what the list of a request is made from; None when there is too little."""
        held = self._of(query)
        query.left_out += held.left_out
        before, few = len(query.left_out), max(_PER_SLOT * query.wanted, _AT_LEAST)
        found = self._pipeline.showable(query, *held.first(few))  # it passes or not, whatever the others are
        if len(found) < query.wanted and few < len(held.keys):
            del query.left_out[before:]
            found = self._pipeline.showable(query, held.keys, held.mask)
        if len(found) < query.wanted:
            return None
        at = np.searchsorted(held.keys, found.keys)
        names = self._pipeline.names
        return Popular(found.keys, held.mask[at], held.clicks[at], held.rank[at], query.wanted, names)

    def _of(self, query: Query) -> Held:
        """Return what is held for the surface, the country and the settings of a request."""
        name, now = (query.request.surface, query.country, query.settings), self._clock()
        held = self._held.get(name)
        if held is None or now >= held.until:
            if len(self._held) >= MOST_HELD:
                self._held.clear()
            held = self._held[name] = self._asked(query, now + HOLD_S)
        return held

    def _asked(self, query: Query, until: float) -> Held:
        """Ask the sources for nobody in particular."""
        nobody = RecRequest(request_id="", user_id="", surface=query.request.surface)
        asked = plain_query(nobody, query.now, query.country, -1, query.policy)
        keys, mask, strength = self._pipeline.proposed(asked)
        if len(keys) > _MOST:
            best = np.sort(np.argpartition(-strength, _MOST)[:_MOST])
            keys, mask = keys[best], mask[best]
        stats = self._pipeline.data.stats.rows_of(keys)
        clicks = WINDOWS.read_one(stats, query.now, "1h", "click")
        ever = COUNTS.totals(stats, "click").astype(np.int64)
        rank = np.empty(len(keys), np.int64)
        rank[order := np.lexsort((-ever, -clicks))] = np.arange(len(keys))
        return Held(until, keys, mask, clicks, rank, order, asked.left_out)
