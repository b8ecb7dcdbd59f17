"""Second chance (the clock algorithm): finds rows that were not used lately, without a look at each. Pure.

A hand goes round over the row numbers. A row that was used since the hand came by last gets a second chance;
the others are candidates. So the cost of an eviction depends on how many rows are evicted, not on how many
there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.changes import U64, Bool, Rows, RowSet
from headrace.streams.tables.rows import RowTable

I64: TypeAlias = npt.NDArray[np.int64]

#: Row numbers looked at together.
_LOOK = 4096


class SecondChance:
    """Remembers which rows of a table were used, and where the hand is."""

    def __init__(self) -> None:
        self._used = RowSet()
        self._hand = 0

    def use(self, rows: Rows, capacity: int) -> None:
        """Note that rows were used; ``capacity`` is larger than every row number."""
        self._used.add(rows, capacity)

    def candidates(self, table: RowTable, wanted: int, held: Callable[[Rows], Bool]) -> Iterator[U64]:
        """Yield the keys of ``wanted`` rows, in pieces, or of fewer: the hand goes round twice at most.

        The caller drops the rows of each piece before it asks for the next one.

        Parameters
        ----------
        held
            Returns which rows must stay, bool ``(n,)``.
        """
        end = len(table.view())
        left = 2 * end
        while wanted > 0 and left > 0:
            if self._hand >= end:
                self._hand = 0
            rows = np.arange(self._hand, min(self._hand + _LOOK, end))
            idle = rows[~(self._used.has(rows) | held(rows))]
            keys = table.data["key"][idle]
            idle, keys = idle[keys != 0][:wanted], keys[keys != 0][:wanted]
            seen = rows if len(idle) < wanted else rows[: int(idle[-1]) + 1 - self._hand]
            self._used.discard(seen)
            self._hand += len(seen)
            left -= len(seen)
            wanted -= len(keys)
            if len(keys):
                yield keys
