"""The tables of rows that growing moves: reads a partition as its owner does, and finds where rows belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state import items, neighbours, shown, users
from headrace.models.state.users import PLACED
from headrace.streams.settings import Settings
from headrace.streams.tables.changes import larger_mark
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows, RowTable, unpack
from headrace.streams.tables.spill import SpillFolder
from headrace.streams.tables.written_layout import check_layouts
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_partition
from headrace.streams.transport.batches import RecordBatch

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]

#: Rows looked at, and written, at once.
STEP = 2000
#: Where the partition of a row's user is not known: its row does not say it.
HOMELESS = -1
#: A row of what a user was shown, without a row of that user: past its time to live, or not.
EXPIRED, ALONE = -2, -3


@dataclass(frozen=True)
class Table:
    """A table with a changelog: the parameters of its ``StatePartition``."""

    topic: str
    dtype: np.dtype[Any]
    blank: npt.NDArray[Any] | np.void
    order: Sequence[str] = ("offset",)


def tables_of(topics: Topics) -> tuple[Table, ...]:
    """Return all tables. `user-state` is first: it says where the users of `shown-state` belong."""
    return (
        Table(topics.user_state, users.ROW, users.BLANK[()], users.ORDER),
        Table(topics.shown_state, shown.ROW, shown.BLANK[()], shown.ORDER),
        Table(topics.item_features, items.ROW, items.BLANK[()]),
        Table(topics.item_countries, items.ROW, items.BLANK[()]),
        Table(topics.neighbours, neighbours.ROW, neighbours.BLANK[()]),
    )


async def read_table(settings: Settings, table: Table, number: int) -> StatePartition:
    """Read a partition of a changelog; rows beyond ``memory_rows`` are on the disk.

    Raises
    ------
    LayoutError
        When this version cannot read the rows.
    UnavailableError
        The topic is missing or the broker stops answering.
    """
    rows = RowTable(table.dtype, table.blank, table.order)
    spills = SpillFolder(settings.data_dir / "spill")
    part = StatePartition(number, rows, larger_mark, table.order, spills=spills)

    def take(batch: RecordBatch) -> None:
        part.apply(batch.records, batch.last_offset + 1)
        part.evict(max_rows=settings.memory_rows)

    await read_partition(settings, table.topic, number, take)
    check_layouts(part, table.topic)
    return part


def rows_of(part: StatePartition) -> Iterator[tuple[PackedRows, Rows]]:
    """Yield all rows of a partition, packed and as arrays, a few at a time."""
    keys = np.concatenate([part.rows.keys(), part.evicted()])
    for at in range(0, len(keys), STEP):
        packed = part.packed(keys[at : at + STEP])
        yield packed, unpack(list(packed), part.rows.dtype)[0]


class Homes:
    """Where the rows of one old partition belong among ``partitions``.

    Parameters
    ----------
    partitions
        The new number.
    now_ms
        Time of day, ms.
    ttl_ms
        A row that is idle for longer may be deleted.
    """

    def __init__(self, partitions: int, now_ms: int = 0, ttl_ms: int = 0) -> None:
        self._partitions = partitions
        self._now_ms, self._ttl_ms = now_ms, ttl_ms
        self._newest = 0
        self._users: U64 = np.zeros(0, np.uint64)
        self._places: I64 = np.zeros(0, np.int64)

    def learn(self, part: StatePartition) -> None:
        """Note where the users of a partition of `user-state` belong."""
        found = list[tuple[U64, I64]]()
        for _, rows in rows_of(part):
            found.append((rows["key"].copy(), self.of_users(rows)))
            self._newest = max(self._newest, int(rows["updated"].max()))
        keys = np.concatenate([self._users, *(keys for keys, _ in found)])
        order = np.argsort(keys)
        self._users = keys[order]
        self._places = np.concatenate([self._places, *(places for _, places in found)])[order]

    def of(self, table: Table, topics: Topics, rows: Rows) -> I64:
        """Return the partitions of rows of a table, int64 ``(n,)``; negative where nobody knows."""
        if table.topic == topics.user_state:
            return self.of_users(rows)
        return self.of_shown(rows) if table.topic == topics.shown_state else self.of_items(rows)

    def of_users(self, rows: Rows) -> I64:
        """Return the partitions of rows of users, int64 ``(n,)``; ``HOMELESS`` where they do not say it."""
        place = rows["place"].astype(np.int64)
        return np.where(place == 0, HOMELESS, (place & (PLACED - 1)) % self._partitions)

    def of_shown(self, rows: Rows) -> I64:
        """Return the partitions of rows of what users were shown: those of their users.

        The two rows of a user expire one after the other. By the rule of ``Expiry``, a row is past its time
        to live when both the clock and the newest row of the partition are.
        """
        before = min(self._newest, self._now_ms) - self._ttl_ms
        alone = np.where(rows["updated"] < before, EXPIRED, ALONE)
        if not len(self._users):
            return alone
        at = np.minimum(np.searchsorted(self._users, rows["key"]), len(self._users) - 1)
        return np.where(self._users[at] == rows["key"], self._places[at], alone)

    def of_items(self, rows: Rows) -> I64:
        """Return the partitions of rows of items, of countries or of neighbours, int64 ``(n,)``."""
        items = rows["item"] if "item" in (rows.dtype.names or ()) else rows["key"]
        return (items % np.uint64(self._partitions)).astype(np.int64)
