"""The newest items: of the catalogue, of a category, of creators. Kept in order as items come and go."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.serving.index.newest_rows import NewestRows, in_blocks
from headrace.streams.settings import DAY_MS
from headrace.streams.tables.rows import RowTable

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

ITEM = np.dtype([("key", "<u8"), ("published", "<i8"), ("category", "<u8"), ("creator", "<u8")])
_NOTHING = np.zeros(0, np.uint64)
#: Row numbers, newest first; see ``newest_rows.pyi``.
Blocks: TypeAlias = "list[array[int]]"
_NAMES = ("published", "category", "creator")


class Newest:
    """All items, in the order of their publication, for every creator and category too.

    No read and no change looks at more than a few blocks of 512 items, however many there are. An item of
    the future is kept in its place, and found from its time on. It takes about 85 bytes (32 for what is known
    of it, its place in the index, 12 in three lists), a creator or category 300 more.

    Parameters
    ----------
    creator_ms
        Older items of a creator are not returned, ms.
    of_creator
        Most items of one creator in ``of_creators``.
    """

    def __init__(self, creator_ms: int = 30 * DAY_MS, of_creator: int = 50) -> None:
        self._creator_ms, self._of_creator = creator_ms, of_creator
        self._table = RowTable(ITEM)
        self._all: Blocks = []
        self._categories: dict[int, Blocks] = {}
        self._creators: dict[int, Blocks] = {}

    def __len__(self) -> int:
        return len(self._table)

    def put(self, key: int, published: int, category: int, creator: int) -> None:
        """Add or change an item.

        Parameters
        ----------
        key
            Of the item.
        published
            When it is published, ms.
        category, creator
            Their hashes; 0: none.
        """
        one = np.array([key], np.uint64), np.array([published], np.int64)
        self.put_many(*one, np.array([category], np.uint64), np.array([creator], np.uint64))

    def put_many(self, keys: U64, published: I64, category: U64, creator: U64) -> None:
        """Add or change items, columns ``(n,)``; see ``put``. No key is there twice."""
        columns: list[npt.NDArray[Any]] = [published, category, creator]
        places = self._table.find(keys)
        known = np.flatnonzero(places >= 0)
        if len(known):
            there = self._table.data[places[known]]
            changed = np.zeros(len(known), np.bool_)
            for name, column in zip(_NAMES, columns, strict=True):
                changed |= there[name] != column[known]
            self._remove(places[known[changed]])
            wanted = np.ones(len(keys), np.bool_)
            wanted[known[~changed]] = False
            keys, columns = keys[wanted], [column[wanted] for column in columns]
        places = self._table.take(keys)
        for name, column in zip(_NAMES, columns, strict=True):
            self._table.data[name][places] = column
        self._add(places, *columns[1:])

    def _add(self, places: I64, category: U64, creator: U64) -> None:
        """Put rows of the table on the lists."""
        rows = NewestRows(self._table.data)
        rows.add(self._all, places)
        rows.add_to_groups(self._categories, places, np.ascontiguousarray(category))
        rows.add_to_groups(self._creators, places, np.ascontiguousarray(creator))

    def drop(self, key: int) -> None:
        """Take an item out; one that is not there is fine."""
        self.drop_many(np.array([key], np.uint64))

    def drop_many(self, keys: U64) -> None:
        """Take items out, uint64 ``(n,)``; see ``drop``."""
        places = self._table.find(keys)
        self._remove(places[places >= 0])
        self._table.drop(keys)

    def _remove(self, places: I64) -> None:
        """Take rows of the table off the lists."""
        rows, data = NewestRows(self._table.data), self._table.data[places]
        rows.remove(self._all, places)
        rows.remove_from_groups(self._categories, places, np.ascontiguousarray(data["category"]))
        rows.remove_from_groups(self._creators, places, np.ascontiguousarray(data["creator"]))

    def load(self, keys: U64, published: I64, category: U64, creator: U64) -> None:
        """Replace all items by these columns, each ``(n,)``; of a key given twice, the last counts."""
        self._table = RowTable(ITEM)
        self._table.reserve(len(keys))
        places = self._table.take(keys)
        data = self._table.data
        for name, column in (("published", published), ("category", category), ("creator", creator)):
            data[name][places] = column
        every = self._table.rows()
        rows: I32 = every[NewestRows(data).order(every)].astype(np.int32)
        self._all = in_blocks(rows)
        self._categories = _grouped(rows, data["category"][rows])
        self._creators = _grouped(rows, data["creator"][rows])

    def published(self, keys: U64) -> I64:
        """Return when items that are here were published, ms, int64 ``(n,)``."""
        times: I64 = self._table.data["published"][self._table.find(keys)]
        return times

    def newest(self, now: int, k: int) -> U64:
        """Return the ``k`` newest items at ``now`` (ms), newest first, uint64 ``(<=k,)``; ties by key."""
        return self._keys(NewestRows(self._table.data).newest(self._all, now, k))

    def by_category(self, category: int, now: int, k: int) -> U64:
        """Return the newest items of a category; see ``newest``."""
        blocks = self._categories.get(category)
        if blocks is None:
            return _NOTHING
        return self._keys(NewestRows(self._table.data).newest(blocks, now, k))

    def by_creator(self, creator: int, now: int, k: int) -> U64:
        """Return the newest items of a creator that are not too old; see ``newest``."""
        if creator not in self._creators:
            return _NOTHING
        return self._keys(self._of(NewestRows(self._table.data), creator, now, k))

    def of_creators(self, creators: Iterable[int], now: int, k: int) -> U64:
        """Return the newest items of several creators, not too many of one; see ``newest``."""
        rows = NewestRows(self._table.data)
        most = min(k, self._of_creator)
        found = [self._of(rows, creator, now, most) for creator in dict.fromkeys(creators)]
        every = np.concatenate(found) if found else np.zeros(0, np.int32)
        return self._keys(every[rows.order(every)[:k]])

    def _of(self, rows: NewestRows, creator: int, now: int, k: int) -> I32:
        blocks = self._creators.get(creator)
        if blocks is None:
            return np.zeros(0, np.int32)
        found = rows.newest(blocks, now, k)
        return found[self._table.data["published"][found] > now - self._creator_ms]

    def _keys(self, rows: I32) -> U64:
        if not len(rows):
            return _NOTHING
        keys: U64 = self._table.data["key"][rows]
        return keys

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated for items and lists, without those of dicts; it looks at all lists."""
        lists = [self._all, *self._categories.values(), *self._creators.values()]
        return self._table.nbytes + sum(sys.getsizeof(block) for blocks in lists for block in blocks)


def _grouped(rows: I32, group: U64) -> dict[int, Blocks]:
    """Return the blocks of each group; ``rows`` are in order. Rows of group 0 are left out."""
    order = np.argsort(group, kind="stable")
    rows, group = rows[order], group[order]
    starts = np.flatnonzero(np.diff(group, prepend=np.uint64(0)))
    ends = np.append(starts[1:], len(rows))[: len(starts)].tolist()
    names = group[starts].tolist()
    return {
        name: in_blocks(rows[start:end])
        for name, start, end in zip(names, starts.tolist(), ends, strict=True)
    }
