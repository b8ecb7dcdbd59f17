"""Content features of all items, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.content import own_vector
from headrace.models.embeddings.directions import DIM, F32, U8, U64
from headrace.models.embeddings.features import I64, Features, ragged
from headrace.models.embeddings.item_keys import keys_of_items
from headrace.streams.messages.ids import hash_many, words
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.room import Room
from headrace.streams.tables.rows import RowTable

_PLACE = np.dtype([("key", "<u8"), ("start", "<i8"), ("count", "<i8")])
_NAME = np.dtype([("key", "<u8"), ("feature", "<u8")])
_OWN = np.dtype([("key", "<u8"), ("vector", "<f4", (DIM,))])
#: A heap with less waste than this is not worth a copy.
_LEAST_WASTE = 4096
#: While a heap is copied without its waste, a call moves so many items, and so many for each of its own.
_MOVED, _MOVED_EACH = 64, 4


@dataclass(frozen=True, slots=True)
class Described:
    """Items with their keys and what the towers read of them, in columns.

    Attributes
    ----------
    keys
        uint64 ``(n,)``.
    features
        Their ``content_features`` and ``own_vector``.
    names
        Hashes of the names of categories and creators, and the feature keys of these, uint64 ``(2, m)`` each;
        0 is none.
    """

    keys: U64
    features: Features
    names: tuple[U64, U64]

    @classmethod
    def of(
        cls, keys: U64, items: list[Item], category: U64 | None = None, creator: U64 | None = None
    ) -> Described:
        """Describe items; ``category`` and ``creator`` are the hashes of these, if the caller knows them."""
        found, kinds, bounds, categories, creators = keys_of_items(items, *words())
        given = [(at, own_vector(item)) for at, item in enumerate(items) if item.vector]
        own = [(at, vector) for at, vector in given if vector is not None]
        vectors = np.array([vector for _, vector in own], np.float32).reshape(-1, DIM)
        features = Features(bounds, found, kinds, np.array([at for at, _ in own], np.int64), vectors)
        category = hash_many([item.category for item in items]) if category is None else category
        creator = hash_many([item.creator_id for item in items]) if creator is None else creator
        return cls(keys, features, (np.stack([category, categories]), np.stack([creator, creators])))

    def one(self) -> tuple[int, U64, U8, F32 | None]:
        """Return the key of the only item, its features, their kinds and its own vector."""
        f = self.features
        return int(self.keys[0]), f.keys, f.kinds, f.own[0] if len(f.own) else None


class _Heap:
    """Features one after the other in two arrays; those that are dropped stay where they are.

    Parameters
    ----------
    first
        Number of its first place. So the places of two heaps are told apart.

    Attributes
    ----------
    end, waste
        The place behind its last feature, and how many features were dropped.
    """

    def __init__(self, first: int) -> None:
        self.first = self.end = first
        self.waste = 0
        self._keys, self._kinds = Room(np.uint64), Room(np.uint8)

    def __len__(self) -> int:
        return self.end - self.first

    def append(self, keys: U64, kinds: U8) -> int:
        """Add features; return the place of the first."""
        start, end = len(self), len(self) + len(keys)
        self._keys.grow(end)
        self._kinds.grow(end)
        self._keys.array[start:end], self._kinds.array[start:end] = keys, kinds
        self.end += len(keys)
        return self.first + start

    def at(self, places: I64) -> tuple[U64, U8]:
        """Return the features at some places, and their kinds."""
        places = places - self.first
        return self._keys.array[places], self._kinds.array[places]


class ItemContent:
    """An ``ItemFeatures`` that items are put into: their features one after the other in a heap.

    When much of the heap is waste, another one begins, and every later call moves some of the items there. So
    no call takes longer the more items there are.
    """

    def __init__(self) -> None:
        self._places = RowTable(_PLACE)
        self._categories, self._creators = RowTable(_NAME), RowTable(_NAME)
        self._own = RowTable(_OWN)
        self._heap = _Heap(0)
        self._old: _Heap | None = None  # the heap that items are moved from
        self._next = 0  # row of the item that is moved next

    def __len__(self) -> int:
        return len(self._places)

    def put(self, item: Item) -> int:
        """Add or replace an item; return its key."""
        keys = hash_many([item.item_id])
        self.put_many(Described.of(keys, [item]))
        return int(keys[0])

    def put_many(self, items: Described) -> None:
        """Add or replace items with different keys."""
        self.drop(items.keys)
        features = items.features
        start = self._heap.append(features.keys, features.kinds)
        rows = self._places.take(items.keys)
        self._places.data["start"][rows] = features.bounds[:-1] + start
        self._places.data["count"][rows] = np.diff(features.bounds)
        if len(features.own_at):
            at = self._own.take(items.keys[features.own_at])
            self._own.data["vector"][at] = features.own
        for names, (ids, keys) in zip((self._categories, self._creators), items.names, strict=True):
            _name(names, ids, keys)

    def drop(self, items: U64 | list[int]) -> None:
        """Remove items by their keys."""
        self._move(_MOVED + _MOVED_EACH * len(items))
        rows = self._places.find(items)
        rows = rows[rows >= 0]
        if not len(rows):
            return
        there = self._places.data[rows]
        self._heap.waste += int(there["count"][self._inside(self._heap, there["start"])].sum())
        self._places.drop(items)
        self._own.drop(items)
        if self._old is None and self._heap.waste > max(_LEAST_WASTE, len(self._heap) // 2):
            self._begin()

    def features_of(self, items: U64) -> Features:
        """Return the content features of items; an item that is not known has none."""
        rows = self._places.find(items)
        places = self._places.data[np.maximum(rows, 0)]
        bounds, at = ragged(places["start"], np.where(rows >= 0, places["count"], 0))
        own = self._own.find(items)
        own_at = np.flatnonzero(own >= 0)
        vectors = self._own.data["vector"][own[own_at]]
        return Features(bounds, *self._at(at), own_at, vectors)

    def categories(self, ids: U64) -> U64:
        """Return the feature keys of categories by ``hash64`` of their names, 0 where no item has one."""
        return _named(self._categories, ids)

    def creators(self, ids: U64) -> U64:
        """Return the feature keys of creators by ``hash64`` of their ids, 0 where no item has one."""
        return _named(self._creators, ids)

    @staticmethod
    def _inside(heap: _Heap, places: I64) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (places >= heap.first) & (places < heap.end)
        return inside

    def _at(self, places: I64) -> tuple[U64, U8]:
        """Return the features at some places of both heaps, and their kinds."""
        old = self._old
        if old is None or not (before := self._inside(old, places)).any():
            return self._heap.at(places)
        keys, kinds = np.empty(len(places), np.uint64), np.empty(len(places), np.uint8)
        keys[before], kinds[before] = old.at(places[before])
        keys[~before], kinds[~before] = self._heap.at(places[~before])
        return keys, kinds

    def _begin(self) -> None:
        """Begin another heap, without the waste of this one."""
        self._old, self._heap, self._next = self._heap, _Heap(self._heap.end), 0

    def _move(self, most: int) -> None:
        """Move the features of the items in the next ``most`` rows to the heap in use."""
        if self._old is None:
            return
        part = self._places.view()[self._next : self._next + most]
        rows = self._next + np.flatnonzero((part["key"] != 0) & self._inside(self._old, part["start"]))
        places = self._places.data[rows]
        bounds, at = ragged(places["start"], places["count"])
        self._places.data["start"][rows] = self._heap.append(*self._old.at(at)) + bounds[:-1]
        self._next += most
        if self._next >= self._places.used:
            self._old = None

    def _compact(self) -> None:
        """Copy the heap without its waste, all at once."""
        self._move(self._places.used)
        self._begin()
        self._move(self._places.used)


def _name(names: RowTable, ids: U64, keys: U64) -> None:
    """Note the feature keys of names by their hashes, the known ones are the same as before; 0 is none."""
    new = np.flatnonzero((names.find(ids) < 0) & (ids != 0))
    if len(new):
        rows = names.take(ids[new])
        names.data["feature"][rows] = keys[new]


def _named(names: RowTable, ids: U64) -> U64:
    flat = np.ascontiguousarray(ids, np.uint64).ravel()
    rows = names.find(flat)
    out: U64 = np.where(rows >= 0, names.data["feature"][np.maximum(rows, 0)], np.uint64(0))
    return out.reshape(np.shape(ids))
