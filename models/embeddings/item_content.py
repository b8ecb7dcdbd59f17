"""Content features of all items, in memory."""

from __future__ import annotations

import numpy as np

from headrace.models.embeddings.content import category_key, content_features, creator_key, own_vector
from headrace.models.embeddings.directions import DIM, F32, U8, U64
from headrace.models.embeddings.features import Features, ragged
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import RowTable

_PLACE = np.dtype([("key", "<u8"), ("start", "<i8"), ("count", "<i8")])
_NAME = np.dtype([("key", "<u8"), ("feature", "<u8")])
_OWN = np.dtype([("key", "<u8"), ("vector", "<f4", (DIM,))])
#: A heap with less waste than this is not worth a copy.
_LEAST_WASTE = 4096


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
        self.put_features(key, item, *content_features(item), own_vector(item))
        return key

    def put_features(self, key: int, item: Item, keys: U64, kinds: U8, own: F32 | None) -> None:
        """Add or replace an item whose features (``content_features``, ``own_vector``) are known already."""
        self.drop([key])
        row = self._places.take([key])
        self._places.data["start"][row] = self._append(keys, kinds)
        self._places.data["count"][row] = len(keys)
        if own is not None:
            at = self._own.take([key])
            self._own.data["vector"][at] = own
        if item.category:
            _name(self._categories, hash64(item.category), category_key(item.category))
        if item.creator_id:
            _name(self._creators, hash64(item.creator_id), creator_key(item.creator_id))

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

    def _append(self, keys: U64, kinds: U8) -> int:
        start, end = self._used, self._used + len(keys)
        if end > len(self._keys):
            self._keys = np.resize(self._keys, end * 5 // 4)
            self._kinds = np.resize(self._kinds, end * 5 // 4)
        self._keys[start:end], self._kinds[start:end] = keys, kinds
        self._used = end
        return start

    def _compact(self) -> None:
        rows = self._places.rows()
        places = self._places.data[rows]
        bounds, at = ragged(places["start"], places["count"])
        self._keys, self._kinds = self._keys[at], self._kinds[at]
        self._places.data["start"][rows] = bounds[:-1]
        self._used, self._waste = len(at), 0


def _name(names: RowTable, name: int, feature: int) -> None:
    row = names.take([name])
    names.data["feature"][row] = feature


def _named(names: RowTable, ids: U64) -> U64:
    flat = np.ascontiguousarray(ids, np.uint64).ravel()
    rows = names.find(flat)
    out: U64 = np.where(rows >= 0, names.data["feature"][np.maximum(rows, 0)], np.uint64(0))
    return out.reshape(np.shape(ids))
