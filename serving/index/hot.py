"""Hot index: vector search over the items of the last hours.

New items are in a tail that is compared completely: 5 ns an item. A background thread merges the tail and
what was settled before into a new index (``lists.py`` or ``graph.py``), which leaves out the dead. The caller
goes on meanwhile, and takes the new index when it is there. So no caller ever waits for a build, and an item
is found at once. Before the first search, while a catalogue is read, a merge waits until there is about as
much to add as was settled: merges at every 10,000 items took a quarter of the time of a load.

While the catalogue is in files, what lies there is not copied: the new items of the snapshot are searched in
it (``young.py``), and only what changed since is here.

Only one thread may call it.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Rows
from headrace.serving.index.settled import Columns, Engine, Settled
from headrace.serving.index.tail import Tail
from headrace.serving.index.young import Young
from headrace.streams.tables.rows import RowTable

log = logging.getLogger(__name__)

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_ROW = np.dtype([("key", "<u8"), ("published", "<i8")])

#: The tail is merged when it has become this long, and after this time. Before the first search it may be
#: longer, up to a search of a millisecond.
_LONG, _LONGEST = 10_000, 200_000
MERGE_MS = 300_000
#: Merge when this share of the settled items is dead, if they are more than a few.
_DEAD_SHARE = 0.3
_FEW = 1000
#: While ages of items that are gone are let go, a call looks at so many, and at so many for each of its own.
_LOOKED_AT, _LOOKED_AT_EACH = 64, 4
#: Items that are put into a new index, or read, at once.
_BLOCK = 4096
#: Items that are compared at once, to measure the recall: in .3 ms.
_COMPARED = 65_536


@dataclass(frozen=True, slots=True)
class Contents:
    """The items at one moment: parts, which of each are alive, and the snapshot's. Any thread may read it."""

    parts: list[tuple[Columns, Bool]]
    mapped: Young | None = None

    def blocks(self) -> Iterator[tuple[U64, Rows]]:
        """Yield keys and vectors of all items, those that are not alive marked as dead."""
        if self.mapped is not None:
            yield from self.mapped.blocks()
        for items, alive in self.parts:
            for first in range(0, len(items.key), _COMPARED):
                some = slice(first, first + _COMPARED)
                dead = np.packbits(~alive[some], bitorder="little")
                yield items.key[some], Rows(*items.vectors.take(some), dead)

    def living(self) -> Columns:
        """Return the items of the parts that are alive, older ones first."""
        return Columns.joined([items.take(np.flatnonzero(alive)) for items, alive in self.parts])


@dataclass(slots=True)
class _Merge:
    """A merge that is going on.

    Attributes
    ----------
    settled
        What comes of it.
    upto
        How much of the tail is in it.
    gone
        Keys that were dropped or put again since it began.
    """

    settled: Future[Settled]
    upto: int
    gone: set[int]


class HotIndex:
    """Vector search over the items published in the last ``max_age_ms``.

    Parameters
    ----------
    max_age_ms
        An item older than this is removed.
    engine
        How settled items are searched: ``lists`` or ``hnsw``.

    Attributes
    ----------
    mapped
        The new items of the snapshot, None without one; see ``over``.
    asked
        Vector of the last search, None before the first one.
    merged_at
        When items were settled last, s of ``time.monotonic``: a merge was taken, or this index was built
        of settled ones. None before that.
    """

    def __init__(self, max_age_ms: int, engine: Engine = "lists") -> None:
        self._max_age_ms = max_age_ms
        self._engine = engine
        self._alive = RowTable(_ROW)
        self._by_age: list[tuple[int, int]] = []  # a heap
        self._kept: list[tuple[int, int]] | None = None  # another one, that takes its place
        self._settled: Settled | None = None
        self._tail = Tail()
        self._merge: _Merge | None = None
        self._merged_ms: int | None = None
        self.mapped: Young | None = None
        self.asked: F32 | None = None
        self.merged_at: float | None = None
        self._thread = ThreadPoolExecutor(1, "hot-index")

    def __len__(self) -> int:
        return len(self._alive) + (0 if self.mapped is None else len(self.mapped))

    def over(self, young: Young | None) -> None:
        """From now on, find the new items of a snapshot, too, which must not be here; None: no more."""
        self.mapped = young

    def oldest(self, now: int) -> int:
        """Return when the oldest item that is young enough at ``now`` was published; both in ms."""
        return now - self._max_age_ms

    @property
    def in_tail(self) -> int:
        """Return the number of items in the tail."""
        return len(self._tail)

    def close(self) -> None:
        """End the background thread, after the merge that is going on."""
        self._thread.shutdown(cancel_futures=True)

    def put(self, key: int, vector: F32, published: int, now: int) -> bool:
        """Add or update an item; return whether it is in the index. See ``put_many``."""
        one = np.array([key], np.uint64), np.array([published], np.int64)
        return bool(self.put_many(one[0], vector[None, :], one[1], now)[0])

    def put_many(self, keys: U64, vectors: F32, published: I64, now: int) -> Bool:
        """Add or update items.

        Parameters
        ----------
        keys
            Different keys, uint64 ``(n,)``.
        vectors
            float32 ``(n, DIM)``.
        published
            When each was published, ms, int64 ``(n,)``.
        now
            Time, ms.

        Returns
        -------
        Which are in the index, bool ``(n,)``: those that have a vector, and are young enough.
        """
        self._take_merged()
        fits: Bool = self.young(published, now) & vectors.any(axis=1)
        if not fits.all():
            self.drop_many(keys[~fits])
            keys, vectors, published = keys[fits], vectors[fits], published[fits]
        if len(keys):
            quantised = Quantised.of(vectors)
            new = np.flatnonzero(~self._hold(keys, quantised))
            if len(new):
                self.drop_many(keys[new])
                self._tail.append(Columns(keys[new], quantised.take(new)))
            self._remember(keys, published)
            if self._is_long() or self._tail.dead > max(_FEW, _DEAD_SHARE * self._tail.used):
                self._begin_merge()
        return fits

    def _is_long(self) -> bool:
        """Return whether the tail is to be merged."""
        settled = 0 if self.asked is not None or self._settled is None else len(self._settled)
        return self._tail.used >= max(_LONG, min(settled, _LONGEST))

    def _hold(self, keys: U64, vectors: Quantised) -> Bool:
        """Return which items are here with these vectors, bool ``(n,)``."""
        held = self._tail.hold(keys, vectors)
        return held if self._settled is None else held | self._settled.hold(keys, vectors)

    def _remember(self, keys: U64, published: I64) -> None:
        rows = self._alive.find(keys)
        changed = (rows < 0) | (self._alive.data["published"][rows] != published)
        if not changed.any():
            return
        keys, published = keys[changed], published[changed]
        rows = self._alive.take(keys)  # this may move the data
        self._alive.data["published"][rows] = published
        if self._kept is None and len(self._by_age) > 2 * len(self._alive) + _FEW:
            self._kept = []
        ages = self._by_age if self._kept is None else self._kept
        for age in zip(published.tolist(), keys.tolist(), strict=True):
            heapq.heappush(ages, age)
        if self._kept is not None:
            self._let_go(_LOOKED_AT + _LOOKED_AT_EACH * len(keys))

    def _let_go(self, most: int) -> None:
        """Move some ages to the other heap, without those of items that were dropped or got another time."""
        kept = [] if self._kept is None else self._kept
        part = self._by_age[-most:]
        del self._by_age[-most:]  # without its end, a heap is a heap
        rows = self._alive.find(np.array([key for _, key in part], np.uint64))
        now = self._alive.data["published"][rows].tolist()
        for age, row, published in zip(part, rows.tolist(), now, strict=True):
            if row >= 0 and published == age[0]:
                heapq.heappush(kept, age)
        if not self._by_age:
            self._by_age, self._kept = kept, None

    def drop(self, key: int) -> None:
        """Remove an item, if it is in the index."""
        self.drop_many(np.array([key], np.uint64))

    def drop_many(self, keys: U64) -> None:
        """Remove those of some items that are in the index, uint64 ``(n,)``."""
        keys = keys[self._alive.find(keys) >= 0]
        if not len(keys):
            return
        self._alive.drop(keys)
        if self._merge is not None:
            self._merge.gone.update(keys.tolist())
        elsewhere = keys[~self._tail.drop(keys)]
        if len(elsewhere) and self._settled is not None:
            self._settled.withdraw(elsewhere)

    def expire(self, now: int) -> int:
        """Remove the items that have become too old; return how many. Begin a merge if it is time.

        Those of the snapshot are not counted.
        """
        self._take_merged()
        if self.mapped is not None:
            self.mapped.advance(self.oldest(now))
        old = list[tuple[int, int]]()
        for ages in (self._by_age, self._kept or []):
            while ages and now - ages[0][0] > self._max_age_ms:
                old.append(heapq.heappop(ages))
        gone = self._leave(old) if old else 0
        if self._merged_ms is None:
            self._merged_ms = now
        if self._many_dead() or (self._tail.used and now - self._merged_ms >= MERGE_MS):
            self._merged_ms = now
            self._begin_merge()
        return gone

    def _leave(self, old: list[tuple[int, int]]) -> int:
        """Drop those of some items that still have the time they are named with; return how many."""
        published, keys = (
            np.array([ms for ms, _ in old], np.int64),
            np.array([key for _, key in old], np.uint64),
        )
        rows = self._alive.find(keys)
        keys = np.unique(keys[(rows >= 0) & (self._alive.data["published"][rows] == published)])
        self.drop_many(keys)
        return len(keys)

    def _many_dead(self) -> bool:
        settled = self._settled
        return settled is not None and settled.dead > max(_FEW, _DEAD_SHARE * len(settled))

    def contents(self) -> Contents:
        """Return the items as they are now. Making it copies only which are alive."""
        parts = [(self._tail.items(), self._tail.alive())]
        if self._settled is not None:
            parts.insert(0, (self._settled.items, self._settled.alive()))
        return Contents(parts, self.mapped)

    def ages(self) -> tuple[U64, I64]:
        """Return keys and times of the items, without the snapshot's, uint64 and int64 ``(n,)``; copies."""
        rows = self._alive.rows()
        return self._alive.data["key"][rows], self._alive.data["published"][rows]

    def _begin_merge(self) -> None:
        if self._merge is None:
            contents = self.contents()
            merged = self._thread.submit(lambda: Settled(contents.living(), self._engine))
            self._merge = _Merge(merged, self._tail.used, set())

    def _take_merged(self) -> None:
        """Take the new lists, if they are ready."""
        if self._merge is None or not self._merge.settled.done():
            return
        merge, self._merge = self._merge, None
        failed = merge.settled.exception()
        if failed is not None:  # what was there is complete, and is searched as before
            log.error("hot index: items could not be merged: %s", failed, extra={"action": "hot_index"})
            return
        settled = merge.settled.result()
        settled.withdraw(np.fromiter(merge.gone, np.uint64, len(merge.gone)))
        rest, alive = self._tail.items(merge.upto), self._tail.alive(merge.upto)
        self.merged_at = time.monotonic()
        self._settled, self._tail = settled, Tail(rest.take(np.flatnonzero(alive)))

    def settle(self) -> None:
        """Wait until a merge that is going on is done, and take it."""
        if self._merge is not None:
            wait([self._merge.settled])
        self._take_merged()

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return up to ``k`` nearest items and their inner products, nearest first; arrays ``(<=k,)``.

        Of items with the same product, the one that was put last is first.
        """
        if self.mapped is None:
            k = min(k, len(self._alive))
        if k <= 0 or not vector.any():
            return np.zeros(0, np.uint64), np.zeros(0, np.float32)
        self._take_merged()  # nothing may have been put for long
        first, self.asked = self.asked is None, vector
        if first and self._is_long():
            self._begin_merge()
        keys, products = self._tail.search(vector, k)
        older = [part.search(vector, k) for part in (self._settled, self.mapped) if part is not None]
        if older:
            keys = np.concatenate([keys, *(part[0] for part in older)])
            products = np.concatenate([products, *(part[1] for part in older)])
            best = np.argsort(-products, kind="stable")[:k]
            keys, products = keys[best], products[best]
        return keys, products

    def young(self, published: I64, now: int) -> Bool:
        """Return which items, published at these times, are young enough at ``now`` (ms), bool ``(n,)``."""
        out: Bool = now - published <= self._max_age_ms
        return out

    def another(self, items: Columns, published: I64) -> HotIndex:
        """Return an index like this one, with these items, all of them settled; in any thread.

        It takes the place of this one by ``become``.
        """
        out = HotIndex(self._max_age_ms, self._engine)
        order = np.argsort(published, kind="stable")
        for start in range(0, len(order), _BLOCK):  # in blocks, so that other threads get their turn
            at = order[start : start + _BLOCK]
            rows = out._alive.take(items.key[at])
            out._alive.data["published"][rows] = published[at]
            out._by_age += zip(published[at].tolist(), items.key[at].tolist(), strict=True)
            time.sleep(0)
        if len(order):
            out._settled = Settled(items, self._engine)
            out.merged_at = time.monotonic()
        return out

    def become(self, other: HotIndex) -> None:
        """Take over all that is in another index, which must not be used any more."""
        self._alive, self._by_age, self._kept = other._alive, other._by_age, other._kept
        self._settled, self._tail, self.mapped = other._settled, other._tail, other.mapped
        self._merge, self._merged_ms, self.merged_at = other._merge, other._merged_ms, other.merged_at
        self._thread, other._thread = other._thread, self._thread
        other._thread.shutdown(wait=False, cancel_futures=True)

    @classmethod
    def of(
        cls, items: Columns, published: I64, max_age_ms: int, now: int, engine: Engine = "lists"
    ) -> HotIndex:
        """Return an index of items in columns that are young enough at ``now``; they have a vector each."""
        out, young = cls(max_age_ms, engine), np.flatnonzero(now - published <= max_age_ms)
        items, published = items.take(young), published[young]
        out._tail = Tail(items)
        rows = out._alive.take(items.key)
        out._alive.data["published"][rows] = published
        out._by_age = sorted(zip(published.tolist(), items.key.tolist(), strict=True))
        if out._tail.used >= _LONG:
            out._begin_merge()
        return out
