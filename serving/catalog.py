"""The catalogue of a serving process: a snapshot that all processes of a machine map, and what changed since.

Without a snapshot all items are in memory. With one, memory has only the items that were put after it was
written. Rows are numbered through: those of the snapshot, then those in memory. So a row number is valid
until the snapshot is changed for a newer one; that happens between two requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.many import CONTENT_VERSION, version_of
from headrace.serving.catalog_changes import Changes, Origin
from headrace.serving.catalog_reads import items_of, keys_here, vectors_of
from headrace.serving.catalog_row import BLANK, ROW
from headrace.serving.index.newest_mapped import CatalogNewest
from headrace.serving.item_columns import columns_of
from headrace.serving.parted import PartedDict
from headrace.serving.row_texts import RowTexts
from headrace.serving.snapshot.base import Base
from headrace.serving.titles import numbers_of
from headrace.serving.vectors.items import ItemVectors
from headrace.streams.errors import RejectedError
from headrace.streams.messages.countries import country_id
from headrace.streams.messages.ids import hash_many, words
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.key_index import KeyIndex
from headrace.streams.tables.rows import Rows, RowTable

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: Items in memory that are compared with a new snapshot at once; this takes about a millisecond.
STEP = 200


class Catalog:
    """The items, by the hash of their id. A withdrawn item is removed.

    Parameters
    ----------
    blocked_flags
        Items with one of these flags are marked as blocked.

    Attributes
    ----------
    table
        The items in memory.
    newest
        The newest items, of all and by creator and category.
    vectors
        The vectors of the items, by the towers in use.
    base
        The snapshot, None while there is none.
    """

    def __init__(self, blocked_flags: Collection[str] = ()) -> None:
        self.table = RowTable(ROW, BLANK[()])
        self.newest = CatalogNewest()
        self.base: Base | None = None
        self.vectors = ItemVectors()
        self.blocked_flags = frozenset(blocked_flags)
        self._changes = Changes()
        self._texts = RowTexts()
        self._names, self._named = PartedDict[str](), KeyIndex()
        self._allowed: dict[int, frozenset[int]] = {}
        self._blocked: dict[int, frozenset[int]] = {}

    def __len__(self) -> int:
        return len(self.table) + (0 if self.base is None else self.base.count)

    @property
    def version(self) -> str:
        """Version of the vectors of items in memory, and of those that are searched with."""
        return version_of(CONTENT_VERSION, self.vectors.version)

    @property
    def searchable(self) -> bool:
        """Whether the vectors of the snapshot are of the version that is searched with."""
        return self.base is not None and self.base.snapshot.version == self.version

    # -- changes

    def put(self, item: Item) -> int:
        """Add or replace an item; return its key.

        Raises
        ------
        RejectedError
            ``id_collision``, when another item has the same key. That one stays.
        """
        return int(self.put_many([item])[0])

    def put_many(self, items: Sequence[Item], origin: Origin | None = None, keys: U64 | None = None) -> U64:
        """Add or replace items with different ids; return their keys, uint64 ``(n,)``.

        ``keys`` are those that ``check_ids`` returned for them.

        Raises
        ------
        RejectedError
            As ``put``; nothing was changed then.
        """
        if keys is None:
            keys = self.check_ids([item.item_id for item in items])
        items = list(items)
        columns, rows = columns_of(items, *words()), self.table.take(keys)
        data, category, creator = self.table.data, columns.category, columns.creator
        for name in ("category", "creator", "language", "published", "min_age", "boost", "duration"):
            data[name][rows] = getattr(columns, name)
        data["rules"][rows] = data["blocked"][rows] = False
        data["rules"][rows[columns.ruled]] = True
        flagged = columns.flagged.tolist()
        data["blocked"][rows[flagged]] = [not self.blocked_flags.isdisjoint(items[i].flags) for i in flagged]
        titles = [item.title for item in items]
        data["title"][rows] = numbers_of(titles)
        self.vectors.put_many(keys, items, columns)
        self.newest.own.put_many(keys, columns.published, category, creator)
        self._texts.put(rows, [item.item_id for item in items], titles)
        self._put_rules(keys, items, columns.ruled)
        names = np.concatenate([category, creator])
        _, new = self._named.take(names)
        texts = [*(item.category for item in items), *(item.creator_id for item in items)] if len(new) else []
        self._names.put_many(names[new].tolist(), [texts[at] for at in new.tolist()])
        if self.base is not None:
            self.base.hide(keys)
        self._changes.note(keys, origin, gone=False)
        return keys

    def _put_rules(self, keys: U64, items: Sequence[Item], ruled: Rows) -> None:
        """Note the country rules of items, of which those at ``ruled`` have some."""
        for held in (self._allowed, self._blocked):
            if held:
                for key in keys.tolist():
                    held.pop(key, None)
        for key, item in zip(keys[ruled].tolist(), [items[at] for at in ruled.tolist()], strict=True):
            if item.countries:
                self._allowed[key] = frozenset(map(country_id, item.countries))
            if item.blocked_countries:
                self._blocked[key] = frozenset(map(country_id, item.blocked_countries))

    def check_id(self, key: int, item_id: str) -> None:
        """Raise ``RejectedError`` ``id_collision`` when ``key`` is the key of another item than this one."""
        try:
            known = self.id_of(key)
        except KeyError:
            return
        if known != item_id:
            raise _collision(item_id, known)

    def check_ids(self, ids: list[str]) -> U64:
        """Return the keys of different ids, uint64 ``(n,)``.

        Raises
        ------
        RejectedError
            ``id_collision``, when one is that of another item, here or among them.
        """
        keys = hash_many(ids)
        if (at := self._texts.other(self.table.find(keys), ids)) >= 0:
            self.check_id(int(keys[at]), ids[at])
        if len(of_key := dict(zip(keys.tolist(), ids, strict=True))) < len(ids):
            for key, item_id in zip(keys.tolist(), ids, strict=True):
                if item_id != of_key[key]:
                    raise _collision(item_id, of_key[key])
        if self.base is not None:
            for at in np.flatnonzero(self.base.find(keys) >= 0).tolist():
                self.check_id(int(keys[at]), ids[at])
        return keys

    def drop(self, item_id: str) -> int:
        """Remove a withdrawn item; return its key.

        Raises
        ------
        RejectedError
            ``id_collision``, when the item here is another one with the same key. It stays.
        """
        return int(self.drop_many([item_id])[0])

    def drop_many(self, ids: list[str], origin: Origin | None = None, keys: U64 | None = None) -> U64:
        """Remove withdrawn items with different ids; return their keys, uint64 ``(n,)``.

        ``keys`` are those that ``check_ids`` returned for them.

        Raises
        ------
        RejectedError
            As ``drop``; nothing was changed then.
        """
        keys = self.check_ids(ids) if keys is None else keys
        self._forget(keys)
        if self.base is not None:
            self.base.hide(keys)
        self._changes.note(keys, origin, gone=True)
        return keys

    def _forget(self, keys: U64) -> None:
        """Take items out of memory."""
        self._texts.drop(self.table.find(keys))
        self.table.drop(keys)
        self.newest.own.drop_many(keys)
        self.vectors.drop_many(keys)
        for key in keys.tolist():
            for held in (self._allowed, self._blocked):
                held.pop(key, None)

    # -- a newer snapshot

    def begin_swap(self) -> Iterator[U64]:
        """Return the keys of what changed since the snapshot in use, in parts; the new one must hide them.

        The event loop may run between two parts; see ``Changes.begin``.
        """
        return self._changes.begin()

    def swap(self, base: Base) -> Base | None:
        """Use another snapshot, in which the keys of ``begin_swap`` are hidden; between two requests.

        It must have everything that was put here before its places. Returned is the last one: to give its
        memory back takes longer.
        """
        base.hide(self._changes.end())
        old, self.base = self.base, base
        self.newest.over(base.snapshot)
        return old

    def hide_changed(self, base: Base) -> None:
        """Hide in a new snapshot what changed since ``begin_swap``."""
        base.hide(self._changes.since())

    def cancel_swap(self) -> None:
        """Keep the snapshot in use after ``begin_swap``."""
        self._changes.cancel()

    def trim(self, dropped: Callable[[U64], object] | None = None) -> bool:
        """Drop some of the items that the snapshot has as they are; return whether there may be more.

        ``dropped`` is called with their keys, uint64 ``(n,)``, in the same step.
        """
        if self.base is None:
            return False
        ends = {partition: place.next for partition, place in self.base.snapshot.places.items()}
        keys, more = self._changes.contained(ends, STEP)
        self._forget(keys)
        self.base.show(keys)
        if dropped is not None:
            dropped(keys)
        return more

    def forget_old(self, now: int) -> None:
        """Forget some of the items that were withdrawn long ago; ``now`` is in ms."""
        self._changes.forget_old(now)

    def turned(self, partition: int) -> None:
        """The log of a partition of `items` is another one, or has lost its last records."""
        self._changes.turned(partition)

    # -- reading

    def id_of(self, key: int) -> str:
        """Return an item's id; raise KeyError when the item is not there."""
        if (own := self.table.row(key)) >= 0:
            return self._texts.id_of(own)
        if self.base is None or (row := self.base.row(key)) < 0:
            raise KeyError(key)
        return self.base.snapshot.id_of(row)

    def ids_of(self, keys: U64) -> list[str]:
        """Return ``id_of`` of each item."""
        rows, mapped = self.find(keys), 0 if self.base is None else len(self.base)
        if (rows < 0).any():
            raise KeyError(int(keys[rows < 0][0]))
        ids, own = np.empty(len(rows), object), rows >= mapped
        ids[own] = self._texts.ids_of(rows[own] - mapped)
        if self.base is not None:
            ids[~own] = self.base.snapshot.ids_of(rows[~own])
        return list(ids)

    def find(self, keys: U64) -> Rows:
        """Return the row of each item, int64 ``(n,)``; -1 where the catalogue has no such item."""
        rows = self.table.find(keys)
        if self.base is None:
            return rows
        self.base.snapshot.find_others(keys, rows, len(self.base))
        return rows

    def items(self, rows: Rows) -> npt.NDArray[np.void]:
        """Return all fields of items, copies, ``ROW`` ``(n,)``; ``BLANK`` for row -1."""
        return items_of(rows, self.table.data, None if self.base is None else self.base.items)

    def withdrawn(self, keys: U64) -> npt.NDArray[np.bool_]:
        """Return which items are known to be withdrawn, bool ``(n,)``: after a day, nobody knows."""
        return self._changes.gone(keys)

    def column(self, name: str, rows: Rows) -> Any:
        """Return one field of ``ROW``, or ``vector``, of these rows, ``(n, ...)``; no row may be -1."""
        if name == "vector":
            return self.vectors_at(rows)
        data = self.table.data[name]
        if self.base is None:
            return data[rows]
        own = rows >= len(self.base)
        out = np.empty(len(rows), data.dtype)
        out[~own], out[own] = self.base.column(name, rows[~own]), data[rows[own] - len(self.base)]
        return out

    def vectors_at(self, rows: Rows, keys: U64 | None = None) -> F32:
        """Return the vectors of these rows, float32 ``(n, DIM)``; zeros for row -1, and without a vector.

        ``keys`` are those of the items, if the caller has them.
        """
        return self._vectors(rows, self.vectors.now.table, self.searchable, keys)

    def content_vectors(self, rows: Rows) -> F32:
        """Return ``ItemVectors.content_of`` of these rows, float32 ``(n, DIM)``; zeros for row -1."""
        known = self.base is not None and self.base.snapshot.content == CONTENT_VERSION
        return self._vectors(rows, self.vectors.alike, known)

    def _vectors(self, rows: Rows, own: RowTable, mapped: bool, keys: U64 | None = None) -> F32:
        """Return the field ``vector`` of ``own``, by key, and, if it is to be read, of the snapshot."""
        base = None if self.base is None else self.base.items
        places = own.find(keys_here(rows, self.table.data, base) if keys is None else keys)
        return vectors_of(rows, base, mapped, places, own.data, "vector")

    def title_of(self, key: int, default: str | None = None) -> str:
        """Return an item's title; without one ``default``, or its id."""
        title, own = "", self.table.row(key)
        row = -1 if own >= 0 or self.base is None else self.base.row(key)
        if own >= 0:
            title = self._texts.title_of(own)
        elif row >= 0 and self.base is not None:
            title = self.base.snapshot.title_of(row)
        if title or default is not None:
            return title or str(default)
        return self.id_of(key) if own >= 0 or row >= 0 else "an item"

    def name_of(self, key: int) -> str:
        """Return the text of a category or creator, empty when unknown."""
        name = self._names.get(key, "")
        return name if name or self.base is None else self.base.snapshot.name_of(key)

    def attributes(self, items: U64) -> tuple[U64, U64]:
        """Return category and creator of each item, uint64 ``(n,)``; 0 where unknown."""
        found = self.items(self.find(items))
        return found["category"].copy(), found["creator"].copy()

    def vector(self, key: int) -> F32 | None:
        """Return an item's unit vector, float32 ``(DIM,)``, None where it has none."""
        rows = self.find(np.array([key], np.uint64))
        if rows[0] < 0:
            return None
        vector: F32 = self.column("vector", rows)[0]
        return vector if vector.any() else None

    def vectors_of(self, keys: U64) -> F32:
        """Return the vectors of items, float32 ``(n, DIM)``; zeros where an item has none."""
        return self.vectors_at(self.find(keys), keys)

    def allowed_in(self, key: int, country: int) -> bool:
        """Return whether the country rules of an item allow ``country`` (``country_id``; 0 is unknown).

        An item with country rules is not allowed in an unknown country.
        """
        if self.table.row(key) < 0 and self.base is not None and (row := self.base.row(key)) >= 0:
            return bool(self.base.snapshot.allowed_in(np.array([row]), country)[0])
        allowed = self._allowed.get(key)
        blocked = self._blocked.get(key, frozenset())
        if allowed is None and not blocked:
            return True
        return bool(country) and (allowed is None or country in allowed) and country not in blocked

    def all_allowed_in(self, keys: U64, rows: Rows, country: int) -> npt.NDArray[np.bool_]:
        """Return ``allowed_in`` of items and their rows, bool ``(n,)``; no row may be -1."""
        first = 0 if self.base is None else len(self.base)
        own = rows >= first
        out = np.ones(len(rows), np.bool_)
        if self.base is not None:
            out[~own] = self.base.snapshot.allowed_in(rows[~own], country)
        own[own] = self.table.data["rules"][rows[own] - first]
        for at in np.flatnonzero(own).tolist():
            out[at] = self.allowed_in(int(keys[at]), country)
        return out

    def nearest(self, vector: F32, k: int) -> U64:
        """Return the keys of up to ``k`` items of the snapshot nearest to a vector, nearest first."""
        if self.base is None:
            return np.zeros(0, np.uint64)
        return self.base.search(vector, k)[0]


def _collision(item_id: str, other: str) -> RejectedError:
    return RejectedError("id_collision", "item_id", f"the 64-bit hash of {item_id!r} is that of {other!r}")
