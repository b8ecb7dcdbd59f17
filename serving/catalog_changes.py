"""What a catalogue knows of records of `items`: where the last record of each item was.

A snapshot says up to which offset it has everything. So the place of an item's last record says whether the
snapshot has it. Items that were withdrawn are remembered for a day: a snapshot that is opened in that time
may still have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.streams.settings import DAY_MS
from headrace.streams.tables.rows import RowTable

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_ROW = np.dtype([("key", "<u8"), ("place", "<i8"), ("ms", "<i8"), ("part", "<i4"), ("gone", "?")], align=True)
#: Rows whose keys are read at once: less than a millisecond.
KEYS_AT_ONCE = 20_000
#: An offset before every place: the next snapshot has it.
_BEFORE = -1


class Origin(NamedTuple):
    """Where records are from.

    Attributes
    ----------
    partition
        Of `items`: of all records, or of each, int64 ``(n,)``.
    offsets
        Their offsets, int64 ``(n,)``.
    now
        ms.
    """

    partition: int | I64
    offsets: I64
    now: int

    def take(self, rows: I64) -> Origin:
        """Return the origin of some of them."""
        partition = self.partition if isinstance(self.partition, int) else self.partition[rows]
        return self._replace(partition=partition, offsets=self.offsets[rows])


class Changes:
    """The place of the last record of each item; about 50 bytes an item."""

    def __init__(self) -> None:
        self._table = RowTable(_ROW)
        self._since: list[U64] | None = None  # keys that changed since ``begin``
        self._at: int | None = None  # row to look at next, while entries are dropped
        self._old_at = 0

    def __len__(self) -> int:
        return len(self._table)

    def note(self, keys: U64, origin: Origin | None, *, gone: bool) -> None:
        """Note records of items, uint64 ``(n,)``; without an origin every snapshot counts as older."""
        rows = self._table.take(keys)
        data = self._table.data
        data["place"][rows] = np.iinfo(np.int64).max if origin is None else origin.offsets
        data["part"][rows] = -1 if origin is None else origin.partition
        data["ms"][rows] = 0 if origin is None else origin.now
        data["gone"][rows] = gone
        if self._since is not None:
            self._since.append(keys)

    def gone(self, keys: U64) -> npt.NDArray[np.bool_]:
        """Return which items are known to be withdrawn, bool ``(n,)``."""
        rows = self._table.find(keys)
        out = rows >= 0
        out[out] = self._table.data["gone"][rows[out]]
        return out

    def turned(self, partition: int) -> None:
        """The log of a partition is another one, or has lost records: the next snapshot has what is here."""
        data = self._table.view()
        data["place"][data["part"] == partition] = _BEFORE
        self._at = None

    def begin(self) -> Iterator[U64]:
        """Note what changes from now on; return the keys that changed before, uint64 ``(n,)`` in each part.

        A step looks at ``KEYS_AT_ONCE`` rows, and between two steps the event loop may run: an item keeps its
        row, and one that gets a row meanwhile is noted.
        """
        self._since = []
        return self._parts(self._table.used)

    def _parts(self, end: int) -> Iterator[U64]:
        for at in range(0, end, KEYS_AT_ONCE):
            keys = self._table.view()["key"][at : min(at + KEYS_AT_ONCE, end)]
            yield keys[keys != 0]

    def since(self) -> U64:
        """Return the keys that changed since ``begin``, uint64 ``(n,)``."""
        return np.concatenate([np.zeros(0, np.uint64), *(self._since or [])])

    def end(self) -> U64:
        """Return the keys that changed since ``begin``; from now on ``contained`` is to be called."""
        since, self._since, self._at = self.since(), None, 0
        return since

    def cancel(self) -> None:
        """End what ``begin`` began: there is no snapshot."""
        self._since = None

    def forget_old(self, now: int, most: int = 10_000) -> None:
        """Forget items that were withdrawn a day before ``now`` (ms), among the next ``most`` rows."""
        part = self._table.view()[self._old_at : self._old_at + most]
        self._old_at = self._old_at + most if len(part) == most else 0
        self._table.drop(part["key"][part["gone"] & (part["ms"] < now - DAY_MS) & (part["key"] != 0)])

    def contained(self, ends: Mapping[int, int], most: int) -> tuple[U64, bool]:
        """Forget what a snapshot has, a part at a time.

        Parameters
        ----------
        ends
            Partition -> offset of the first record that the snapshot does not contain.
        most
            Rows to look at.

        Returns
        -------
        The keys of the items that the snapshot has as they are, uint64; and whether there may be more.
        """
        if self._at is None:
            return np.zeros(0, np.uint64), False
        part = self._table.view()[self._at : self._at + most]
        bounds = np.array([ends.get(p, 0) for p in range(max(ends, default=0) + 1)], np.int64)
        known = (part["part"] >= 0) & (part["part"] < len(bounds))
        had = known & (part["place"] < bounds[np.where(known, part["part"], 0)]) & (part["key"] != 0)
        keys, gone = part["key"][had], part["gone"][had]
        self._at += most
        more = self._at < len(self._table.view())
        if not more:
            self._at = None
        self._table.drop(keys)
        return keys[~gone], more
