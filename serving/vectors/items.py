"""The vectors of all items, by the towers in use. A new item has its vector at once."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.models.embeddings.features import Features
from headrace.models.embeddings.item_content import Described, ItemContent
from headrace.models.embeddings.towers import Towers
from headrace.serving.index.quantised import coarse, of_coarse
from headrace.serving.item_columns import ItemColumns, columns_of
from headrace.streams.messages.ids import words
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import RowTable

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_ROW = np.dtype([("key", "<u8"), ("published", "<i8"), ("vector", "<f4", (DIM,))])
_CONTENT = np.dtype([("key", "<u8"), ("vector", "i1", (DIM,))])


class SharedContent(ItemContent):
    """Content of items that another thread may read meanwhile: ``features_of`` is whole, and short."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def put_many(self, items: Described) -> None:
        """See ``ItemContent``."""
        with self._lock:
            super().put_many(items)

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
        return self.table.column("vector", self.table.find(keys))


class ItemVectors:
    """The vectors of the items of a catalogue.

    Attributes
    ----------
    content
        What the towers read of the items.
    now
        The version in use: everything that is read for one request is of it.
    alike
        Vectors of version 0 by key, as ``content_of`` returns them (``quantised.coarse``).
    changed
        While another version is made: keys of the items that were put or dropped since; else None.
    """

    def __init__(self) -> None:
        self.content = SharedContent()
        self.now = Version(Towers())
        self.changed: set[int] | None = None
        self.alike = RowTable(_CONTENT)

    @property
    def version(self) -> str:
        """The version of the towers in use; empty for version 0, which is made from content alone."""
        return self.now.towers.version

    def put_many(self, keys: U64, items: list[Item], columns: ItemColumns | None = None) -> None:
        """Add or replace items with different keys; ``columns`` are theirs, if the caller has them."""
        columns = columns_of(items, *words()) if columns is None else columns
        described = Described.of(keys, items, columns.category, columns.creator)
        self.content.put_many(described)
        vectors = self._by(self.now.towers, described)
        self.now.put(keys, columns.published, vectors)
        alike = vectors if not self.version else self._by(_FIRST, described)
        rows = self.alike.take(keys)
        self.alike.data["vector"][rows] = coarse(alike)
        if self.changed is not None:
            self.changed.update(keys.tolist())

    def _by(self, towers: Towers, items: Described) -> F32:
        if len(items.keys) > 1:
            return towers.vectors_of(items.keys, items.features)
        return towers.item_vector(*items.one())[None]

    def drop(self, key: int) -> None:
        """Remove an item, if it is here."""
        self.drop_many(np.array([key], np.uint64))

    def drop_many(self, keys: U64) -> None:
        """Remove items that are here; ``keys`` is uint64 ``(n,)``."""
        self.content.drop(keys)
        self.now.table.drop(keys)
        self.alike.drop(keys)
        if self.changed is not None:
            self.changed.update(keys.tolist())

    def of(self, keys: U64) -> F32:
        """Return the vectors of items, float32 ``(n, DIM)``; zeros where an item has none."""
        return self.now.of(keys)

    def content_of(self, keys: U64) -> F32:
        """Return vectors that say how much alike the content of items is, float32 ``(n, DIM)``.

        Those of version 0, whatever version is in use, to two digits. Learnt vectors are close when the same
        users click the items: a list that keeps those apart is a worse list, not a more diverse one.
        """
        return of_coarse(self.alike.column("vector", self.alike.find(keys)))

    def vector(self, key: int) -> F32 | None:
        """Return an item's unit vector, float32 ``(DIM,)``, None where it has none."""
        row = self.now.table.row(key)
        if row < 0:
            return None
        vector: F32 = self.now.table.data["vector"][row].copy()
        return vector if vector.any() else None


_FIRST = Towers()
