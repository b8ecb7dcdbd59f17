"""Late writes: changelog records of a worker that no longer owned the partition. Pure.

Such a record is older than the row in memory. Compaction would keep it and drop the newer one. So the owner
writes its row again. So it does with rows whose last record is of an earlier layout, but only some at a time:
they can be read as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.streams.tables.changes import U64
from headrace.streams.tables.rows import RowTable, unpack

#: Most rows of an earlier layout that are written again at once.
OLD_ROWS = 20_000


class LateWrites:
    """The keys whose last changelog record is older than what is in memory, or of an earlier layout.

    Parameters
    ----------
    order
        Names of the int64 fields that say which of two states of a row is newer, the most important first.
    """

    def __init__(self, order: Sequence[str]) -> None:
        self._order = tuple(order)
        self._rows: set[int] = set()
        self._old: set[int] = set()
        self._meta: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def compare(self, values: Sequence[bytes], rows: RowTable) -> None:
        """Compare the last record of each key among packed rows with the row in memory."""
        written, sound = unpack(values, rows.dtype)
        written = written[sound]
        # Keep the last record of each key: `unique` finds the first one of the reversed array.
        _, at = np.unique(written["key"][::-1], return_index=True)
        written = written[len(written) - 1 - at]
        here = rows.find(written["key"])
        written, here = written[here >= 0], here[here >= 0]
        older, equal = np.zeros(len(here), bool), np.ones(len(here), bool)
        for name in self._order:
            record, row = written[name], rows.data[name][here]
            older |= equal & (record < row)
            equal &= record == row
        self._rows.difference_update(written["key"][~older].tolist())
        self._rows.update(written["key"][older].tolist())

    def note_layouts(self, keys: U64, migrated_at: Sequence[int]) -> None:
        """Note the keys of rows just read, in order; those at ``migrated_at`` are of an earlier layout."""
        if not (self._old or migrated_at):
            return
        last = dict(zip(keys.tolist(), range(len(keys)), strict=True))
        old = set(migrated_at)
        self._old.difference_update(last)
        self._old.update(key for key, at in last.items() if at in old)

    def compare_meta(self, key: bytes, record: bytes, kept: bytes) -> None:
        """Compare a meta record with the value that is kept."""
        (self._meta.discard if kept == record else self._meta.add)(key)

    def deleted(self, keys: U64) -> None:
        """Note tombstones: nothing of these keys is older any more."""
        self._rows.difference_update(keys.tolist())
        self._old.difference_update(keys.tolist())

    def rewritten(self, keys: U64) -> None:
        """Note rows that are written now, in the newest layout."""
        if self._old:
            self._old.difference_update(keys.tolist())

    def clear(self) -> None:
        """Forget everything."""
        self._rows, self._old, self._meta = set(), set(), set()

    def take_old(self) -> U64:
        """Return keys of rows of an earlier layout, uint64 ``(n,)``, at most ``OLD_ROWS``; forget them."""
        count = min(len(self._old), OLD_ROWS)
        return np.fromiter((self._old.pop() for _ in range(count)), np.uint64, count)

    def take(self) -> tuple[U64, set[bytes]]:
        """Return the keys of older rows, uint64 ``(n,)``, and of meta records, and forget them."""
        keys, meta = np.fromiter(self._rows, np.uint64, len(self._rows)), self._meta
        self._rows, self._meta = set(), set()
        return keys, meta
