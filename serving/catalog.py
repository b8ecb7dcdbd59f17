"""The catalogue in memory: attributes and vectors of every item, in columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM, item_vector
from headrace.serving.index.newest import Newest
from headrace.streams.errors import RejectedError
from headrace.streams.messages.countries import country_id
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import Rows, RowTable

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("category", "<u8"),
        ("creator", "<u8"),
        ("published", "<i8"),
        ("min_age", "<i2"),
        ("rules", "?"),  # the item has country rules
        ("blocked", "?"),  # the item has a flag that is not shown here
        ("language", "<u8"),
        ("boost", "<f4"),
        ("duration", "<i8"),  # ms; 0: none
        ("vector", "<f4", (DIM,)),
    ]
)
_BLANK = np.zeros((), ROW)
_BLANK["boost"] = 1


class Catalog:
    """The items, by the hash of their id. A withdrawn item is removed.

    Parameters
    ----------
    blocked_flags
        Items with one of these flags are marked as blocked.

    Attributes
    ----------
    newest
        The newest items, of all and by creator and category.
    """

    def __init__(self, blocked_flags: Collection[str] = ()) -> None:
        self.table = RowTable(ROW, _BLANK[()])
        self.newest = Newest()
        self._blocked_flags = frozenset(blocked_flags)
        self._ids: dict[int, str] = {}
        self._titles: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._allowed: dict[int, frozenset[int]] = {}
        self._blocked: dict[int, frozenset[int]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def put(self, item: Item) -> int:
        """Add or replace an item; return its key.

        Raises
        ------
        RejectedError
            ``id_collision``, when another item has the same key. That one stays.
        """
        key = hash64(item.item_id)
        self.check_id(key, item.item_id)
        row = int(self.table.take([key])[0])
        data = self.table.data
        data["category"][row] = hash64(item.category)
        data["creator"][row] = hash64(item.creator_id)
        data["published"][row] = item.published_ts
        data["min_age"][row] = item.min_age
        data["boost"][row] = item.boost
        data["duration"][row] = item.duration_ms or 0
        data["rules"][row] = bool(item.countries or item.blocked_countries)
        data["blocked"][row] = not self._blocked_flags.isdisjoint(item.flags)
        data["language"][row] = hash64(item.language)
        data["vector"][row] = item_vector(item)
        self.newest.put(key, item.published_ts, int(data["category"][row]), int(data["creator"][row]))
        self._ids[key] = item.item_id
        self._titles[key] = item.title
        for text in (item.category, item.creator_id):
            if text:
                self._names[hash64(text)] = text
        self._allowed.pop(key, None)
        self._blocked.pop(key, None)
        if item.countries:
            self._allowed[key] = frozenset(map(country_id, item.countries))
        if item.blocked_countries:
            self._blocked[key] = frozenset(map(country_id, item.blocked_countries))
        return key

    def check_id(self, key: int, item_id: str) -> None:
        """Raise ``RejectedError`` ``id_collision`` when ``key`` is the key of another item than this one."""
        if self._ids.get(key, item_id) != item_id:
            raise RejectedError(
                "id_collision", "item_id", f"the 64-bit hash of {item_id!r} is that of {self._ids[key]!r}"
            )

    def drop(self, item_id: str) -> int:
        """Remove a withdrawn item; return its key.

        Raises
        ------
        RejectedError
            ``id_collision``, when the item here is another one with the same key. It stays.
        """
        key = hash64(item_id)
        self.check_id(key, item_id)
        self.table.drop([key])
        self.newest.drop(key)
        for held in (self._ids, self._titles, self._allowed, self._blocked):
            held.pop(key, None)
        return key

    def id_of(self, key: int) -> str:
        """Return an item's id."""
        return self._ids[key]

    def find(self, keys: U64) -> Rows:
        """Return the row of each item, int64 ``(n,)``; -1 where the catalogue has no such item."""
        return self.table.find(keys)

    def column(self, name: str, rows: Rows) -> Any:
        """Return one field of ``ROW`` of these rows, ``(n, ...)``; no row may be -1."""
        return self.table.data[name][rows]

    def title_of(self, key: int, default: str | None = None) -> str:
        """Return an item's title; without one ``default``, or its id."""
        title = self._titles.get(key, "")
        if title or default is not None:
            return title or str(default)
        return self._ids.get(key, "an item")

    def name_of(self, key: int) -> str:
        """Return the text of a category or creator, empty when unknown."""
        return self._names.get(key, "")

    def attributes(self, items: U64) -> tuple[U64, U64]:
        """Return category and creator of each item, uint64 ``(n,)``; 0 where unknown."""
        rows = self.table.find(items)
        known = rows >= 0
        category, creator = np.zeros(len(items), np.uint64), np.zeros(len(items), np.uint64)
        category[known] = self.table.data["category"][rows[known]]
        creator[known] = self.table.data["creator"][rows[known]]
        return category, creator

    def vector(self, key: int) -> F32 | None:
        """Return an item's unit vector, float32 ``(DIM,)``, None where it has none."""
        row = self.table.row(key)
        if row < 0:
            return None
        vector: F32 = self.table.data["vector"][row]
        return vector if vector.any() else None

    def allowed_in(self, key: int, country: int) -> bool:
        """Return whether the country rules of an item allow ``country`` (``country_id``; 0 is unknown).

        An item with country rules is not allowed in an unknown country.
        """
        allowed = self._allowed.get(key)
        blocked = self._blocked.get(key, frozenset())
        if allowed is None and not blocked:
            return True
        return bool(country) and (allowed is None or country in allowed) and country not in blocked
