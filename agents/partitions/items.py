"""Items of one partition: counts each item event once, in rows of items, countries and neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.agents.partitions.source_marks import SourceMark
from headrace.agents.stage.partitions import StagePartition
from headrace.models.state.item_events import new_item_events
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.streams.tables.changes import rows_once
from headrace.streams.tables.partition import Changes, StatePartition
from headrace.streams.tables.rows import PackedRows

#: Key prefix of the meta records of `item-features` with the high-water mark of each source partition.
MARK = b"m:"

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class ItemPartition(StagePartition):
    """Rows of one partition, and which of them are not in the online store yet. Pure: no broker, no clock.

    Parameters
    ----------
    states
        The partitions of the state stores of items, countries and neighbours, in this order.
    """

    def __init__(self, states: Sequence[StatePartition]) -> None:
        super().__init__(states)
        items, countries, pairs = states
        self.stats = ItemState(items.rows, countries.rows)
        self.neighbours = Neighbours(pairs.rows)
        self._touched: list[I64] = []  # row numbers of items changed since the last online flush
        self._marks = {
            int.from_bytes(key[len(MARK) :], "little"): SourceMark.of(value)
            for key, value in items.meta.items()
            if key.startswith(MARK)
        }

    def apply(self, events: npt.NDArray[np.void], offsets: I64) -> int:
        """Apply a batch.

        Parameters
        ----------
        events
            Item events, dtype ``ITEM_EVENT``, ``(n,)``.
        offsets
            Offset of the record of each event, int64 ``(n,)``.

        Returns
        -------
        Number of events that were not counted before.
        """
        new = new_item_events(events, self._marks, SourceMark)
        count = int(np.count_nonzero(new))
        if count:
            items, countries = self.stats.apply(events, offsets, new)
            pairs = self.neighbours.apply(events, offsets, new)
            for state, rows in zip(self.states, (items, countries, pairs), strict=True):
                state.touch(rows)
            self._touched.append(items)
        return count

    def take(self) -> PackedRows:
        """Return the item rows changed since the last call, packed."""
        touched, self._touched = self._touched, []
        table = self.states[0].rows
        rows = rows_once(touched, len(table.data))
        return table.pack(rows[table.data["key"][rows] != 0])

    def changes(self, packed: PackedRows | None = None) -> list[Changes]:
        """Return the changes not in the changelogs yet, one per state store; items have the marks too.

        ``packed`` are item rows of a ``take`` just now.
        """
        for source, mark in self._marks.items():
            self.states[0].set_meta(MARK + source.to_bytes(2, "little"), mark.value())
        items, countries, pairs = self.states
        return [items.take(packed), countries.take(), pairs.take()]
