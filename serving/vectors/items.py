"""The vectors of all items, by the towers in use. A new item has its vector at once."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.models.embeddings.content import content_features, own_vector
from headrace.models.embeddings.features import Features
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.towers import Towers
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import RowTable

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_ROW = np.dtype([("key", "<u8"), ("published", "<i8"), ("vector", "<f4", (DIM,))])
_CONTENT = np.dtype([("key", "<u8"), ("vector", "i1", (DIM,))])
_SCALE = np.float32(127)


class SharedContent(ItemContent):
    """Content of items that another thread may read meanwhile: ``features_of`` is whole, and short."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def put_features(self, *args: object) -> None:
        """See ``ItemContent``."""
        with self._lock:
            super().put_features(*args)  # type: ignore[arg-type]

    def drop(self, items: U64 | list[int]) -> None:
        """See ``ItemContent``."""
        with self._lock:
            super().drop(items)

    def features_of(self, items: U64) -> Features:
        """See ``ItemContent``."""
        with self._lock:
            return super().features_of(items)


class Version:
    """The vectors of items by one version of the towers. One thread uses it at a time."""

    def __init__(self, towers: Towers) -> None:
        self.towers = towers
        self.table = RowTable(_ROW)

    def put(self, keys: U64, published: I64, vectors: F32) -> None:
        """Add or replace items: when they were published, ms ``(n,)``, and their vectors ``(n, DIM)``."""
        rows = self.table.take(keys)
        self.table.data["published"][rows] = published
        self.table.data["vector"][rows] = vectors

    def of(self, keys: U64) -> F32:
        """Return the vectors of items, float32 ``(n, DIM)``, a copy; zeros where there is none."""
        rows = self.table.find(keys)
        out: F32 = self.table.data["vector"][rows]
        out[rows < 0] = 0
        return out


class ItemVectors:
    """The vectors of the items of a catalogue.

    Attributes
    ----------
    content
        What the towers read of the items.
    now
        The version in use: everything that is read for one request is of it.
    changed
        While another version is made: keys of the items that were put or dropped since; else None.
    """

    def __init__(self) -> None:
        self.content = SharedContent()
        self.now = Version(Towers())
        self.changed: set[int] | None = None
        self._alike = RowTable(_CONTENT)

    @property
    def version(self) -> str:
        """The version of the towers in use; empty for version 0, which is made from content alone."""
        return self.now.towers.version

    def put(self, key: int, item: Item) -> None:
        """Add or replace an item."""
        keys, kinds = content_features(item)
        own = own_vector(item)
        self.content.put_features(key, item, keys, kinds, own)
        vector = self.now.towers.item_vector(key, keys, kinds, own)
        alike = vector if not self.version else _FIRST.item_vector(key, keys, kinds, own)
        at = self._alike.take([key])[0]
        self._alike.data["vector"][at] = np.rint(alike * _SCALE)
        row = self.now.table.take([key])[0]
        self.now.table.data["published"][row] = item.published_ts
        self.now.table.data["vector"][row] = vector
        if self.changed is not None:
            self.changed.add(key)

    def drop(self, key: int) -> None:
        """Remove an item, if it is here."""
        self.content.drop([key])
        self.now.table.drop([key])
        self._alike.drop([key])
        if self.changed is not None:
            self.changed.add(key)

    def of(self, keys: U64) -> F32:
        """Return the vectors of items, float32 ``(n, DIM)``; zeros where an item has none."""
        return self.now.of(keys)

    def content_of(self, keys: U64) -> F32:
        """Return vectors that say how much alike the content of items is, float32 ``(n, DIM)``.

        Those of version 0, whatever version is in use, to two digits. Learnt vectors are close when the same
        users click the items: a list that keeps those apart is a worse list, not a more diverse one.
        """
        if not self.version:
            return self.now.of(keys)
        rows = self._alike.find(keys)
        out: F32 = self._alike.data["vector"][rows].astype(np.float32) / _SCALE
        out[rows < 0] = 0
        return out

    def vector(self, key: int) -> F32 | None:
        """Return an item's unit vector, float32 ``(DIM,)``, None where it has none."""
        row = self.now.table.row(key)
        if row < 0:
            return None
        vector: F32 = self.now.table.data["vector"][row].copy()
        return vector if vector.any() else None


_FIRST = Towers()
