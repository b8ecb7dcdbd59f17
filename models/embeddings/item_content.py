"""Content features of all items, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.models.embeddings.content import own_vector
from headrace.models.embeddings.directions import DIM, F32, U8, U64
from headrace.models.embeddings.features import Features, ragged
from headrace.models.embeddings.item_keys import keys_of_items
from headrace.streams.messages.ids import hash_many, words
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import RowTable

_PLACE = np.dtype([("key", "<u8"), ("start", "<i8"), ("count", "<i8")])
_NAME = np.dtype([("key", "<u8"), ("feature", "<u8")])
_OWN = np.dtype([("key", "<u8"), ("vector", "<f4", (DIM,))])
#: A heap with less waste than this is not worth a copy.
_LEAST_WASTE = 4096


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


class ItemContent:
    """An ``ItemFeatures`` that items are put into: their features one after the other in two arrays."""

    def __init__(self) -> None:
        self._places = RowTable(_PLACE)
        self._categories, self._creators = RowTable(_NAME), RowTable(_NAME)
        self._own = RowTable(_OWN)
        self._keys, self._kinds = np.empty(1024, np.uint64), np.empty(1024, np.uint8)
        self._used = self._waste = 0

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
        start = self._append(features)
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
        rows = self._places.find(items)
        if not (rows >= 0).any():
            return
        self._waste += int(self._places.data["count"][rows[rows >= 0]].sum())
        self._places.drop(items)
        self._own.drop(items)
        if self._waste > max(_LEAST_WASTE, self._used // 2):
            self._compact()

    def features_of(self, items: U64) -> Features:
        """Return the content features of items; an item that is not known has none."""
        rows = self._places.find(items)
        places = self._places.data[np.maximum(rows, 0)]
        bounds, at = ragged(places["start"], np.where(rows >= 0, places["count"], 0))
        own = self._own.find(items)
        own_at = np.flatnonzero(own >= 0)
        vectors = self._own.data["vector"][own[own_at]]
        return Features(bounds, self._keys[at], self._kinds[at], own_at, vectors)

    def categories(self, ids: U64) -> U64:
        """Return the feature keys of categories by ``hash64`` of their names, 0 where no item has one."""
        return _named(self._categories, ids)

    def creators(self, ids: U64) -> U64:
        """Return the feature keys of creators by ``hash64`` of their ids, 0 where no item has one."""
        return _named(self._creators, ids)

    def _append(self, features: Features) -> int:
        """Append features; return where they begin."""
        start, end = self._used, self._used + len(features.keys)
        if end > len(self._keys):
            self._keys = np.resize(self._keys, end * 5 // 4)
            self._kinds = np.resize(self._kinds, end * 5 // 4)
        self._keys[start:end], self._kinds[start:end] = features.keys, features.kinds
        self._used = end
        return start

    def _compact(self) -> None:
        rows = self._places.rows()
        places = self._places.data[rows]
        bounds, at = ragged(places["start"], places["count"])
        self._keys, self._kinds = self._keys[at], self._kinds[at]
        self._places.data["start"][rows] = bounds[:-1]
        self._used, self._waste = len(at), 0


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
