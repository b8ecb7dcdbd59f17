"""Content features of all items, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.models.embeddings.content import category_key, content_features, creator_key, own_vector
from headrace.models.embeddings.directions import DIM, F32, U8, U64
from headrace.models.embeddings.features import I64, Features, ragged
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import RowTable

_PLACE = np.dtype([("key", "<u8"), ("start", "<i8"), ("count", "<i8")])
_NAME = np.dtype([("key", "<u8"), ("feature", "<u8")])
_OWN = np.dtype([("key", "<u8"), ("vector", "<f4", (DIM,))])
#: A heap with less waste than this is not worth a copy.
_LEAST_WASTE = 4096


@dataclass(frozen=True, slots=True)
class Described:
    """An item with its key, its ``content_features`` and its ``own_vector``."""

    key: int
    item: Item
    keys: U64
    kinds: U8
    own: F32 | None

    @classmethod
    def of(cls, key: int, item: Item) -> Described:
        """Describe an item."""
        return cls(key, item, *content_features(item), own_vector(item))


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
        key = hash64(item.item_id)
        self.put_many([Described.of(key, item)])
        return key

    def put_many(self, items: Sequence[Described]) -> None:
        """Add or replace items, each once."""
        keys = [item.key for item in items]
        self.drop(keys)
        starts, counts = self._append(items)
        rows = self._places.take(keys)
        self._places.data["start"][rows] = starts
        self._places.data["count"][rows] = counts
        own = [item for item in items if item.own is not None]
        if own:
            at = self._own.take([item.key for item in own])
            self._own.data["vector"][at] = [item.own for item in own]
        _name(self._categories, {hash64(c): category_key(c) for i in items if (c := i.item.category)})
        _name(self._creators, {hash64(c): creator_key(c) for i in items if (c := i.item.creator_id)})

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

    def _append(self, items: Sequence[Described]) -> tuple[I64, I64]:
        """Append the features of items; return where those of each begin, and how many they are."""
        counts = np.array([len(item.keys) for item in items], np.int64)
        ends = self._used + np.cumsum(counts)
        start, end = self._used, int(ends[-1]) if len(items) else self._used
        if end > len(self._keys):
            self._keys = np.resize(self._keys, end * 5 // 4)
            self._kinds = np.resize(self._kinds, end * 5 // 4)
        if end > start:
            self._keys[start:end] = np.concatenate([item.keys for item in items])
            self._kinds[start:end] = np.concatenate([item.kinds for item in items])
        self._used = end
        return ends - counts, counts

    def _compact(self) -> None:
        rows = self._places.rows()
        places = self._places.data[rows]
        bounds, at = ragged(places["start"], places["count"])
        self._keys, self._kinds = self._keys[at], self._kinds[at]
        self._places.data["start"][rows] = bounds[:-1]
        self._used, self._waste = len(at), 0


def _name(names: RowTable, features: dict[int, int]) -> None:
    if features:
        rows = names.take(list(features))
        names.data["feature"][rows] = np.array(list(features.values()), np.uint64)


def _named(names: RowTable, ids: U64) -> U64:
    flat = np.ascontiguousarray(ids, np.uint64).ravel()
    rows = names.find(flat)
    out: U64 = np.where(rows >= 0, names.data["feature"][np.maximum(rows, 0)], np.uint64(0))
    return out.reshape(np.shape(ids))
