"""Category and creator of every item, in 32 bytes an item, for processes that need nothing else of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headrace.serving.catalog_changes import Origin
from headrace.streams.errors import RejectedError
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.rows import RowTable

U64 = npt.NDArray[np.uint64]

_ROW = np.dtype([("key", "<u8"), ("category", "<u8"), ("creator", "<u8"), ("check", "<u8")])


class KnowsAttributes(Protocol):
    """What knows category and creator of items: ``ItemAttributes``, and the whole ``Catalog``."""

    def attributes(self, items: U64) -> tuple[U64, U64]:
        """Return category and creator of each item, uint64 ``(n,)``; 0 where unknown."""


class ItemAttributes:
    """The items, by the hash of their id. A withdrawn item is removed. See ``Catalog``.

    Another hash of the id tells whether two items have the same key.
    """

    def __init__(self) -> None:
        self._table = RowTable(_ROW)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""
        return self._table.nbytes

    def check_id(self, key: int, item_id: str) -> None:
        """Raise ``RejectedError`` ``id_collision`` when ``key`` is the key of another item than this one."""
        row = self._table.row(key)
        if row >= 0 and self._table.data["check"][row] != hash64(_other(item_id)):
            raise _collision(item_id)

    def check_ids(self, ids: Sequence[str]) -> U64:
        """Return the keys of different ids, uint64 ``(n,)``.

        Raises
        ------
        RejectedError
            ``id_collision``, when one is that of another item, here or among them.
        """
        keys, checks = hash_many(list(ids)), _checks(ids)
        rows = self._table.find(keys)
        clash = (rows >= 0) & (self._table.data["check"][rows] != checks)
        if not clash.any() and len(np.unique(keys)) < len(keys):
            _, first = np.unique(keys, return_index=True)
            clash[:] = True
            clash[first] = False
        if clash.any():
            raise _collision(ids[int(np.flatnonzero(clash)[0])])
        return keys

    def put_many(self, items: Sequence[Item], origin: Origin | None = None, keys: U64 | None = None) -> U64:
        """Add or replace items with different ids; return their keys, uint64 ``(n,)``.

        Raises
        ------
        RejectedError
            ``id_collision``, see ``check_ids``; nothing was changed then.
        """
        ids = [item.item_id for item in items]
        keys = self.check_ids(ids) if keys is None else keys
        rows = self._table.take(keys)
        data = self._table.data
        data["category"][rows] = hash_many([item.category for item in items])
        data["creator"][rows] = hash_many([item.creator_id for item in items])
        data["check"][rows] = _checks(ids)
        return keys

    def drop_many(self, ids: Sequence[str], origin: Origin | None = None, keys: U64 | None = None) -> U64:
        """Remove withdrawn items with different ids; return their keys, uint64 ``(n,)``.

        Raises
        ------
        RejectedError
            ``id_collision``, see ``check_ids``; nothing was changed then.
        """
        keys = self.check_ids(ids) if keys is None else keys
        self._table.drop(keys)
        return keys

    def attributes(self, items: U64) -> tuple[U64, U64]:
        """Return category and creator of each item, uint64 ``(n,)``; 0 where unknown."""
        rows = self._table.find(items)
        known = rows >= 0
        category, creator = np.zeros(len(items), np.uint64), np.zeros(len(items), np.uint64)
        category[known] = self._table.data["category"][rows[known]]
        creator[known] = self._table.data["creator"][rows[known]]
        return category, creator


def _other(item_id: str) -> str:
    return f"id:{item_id}"


def _checks(ids: Sequence[str]) -> U64:
    return hash_many([_other(item_id) for item_id in ids])


def _collision(item_id: str) -> RejectedError:
    return RejectedError("id_collision", "item_id", f"the 64-bit hash of {item_id!r} is that of another item")
