"""Items of one partition: item events counted once each, in rows of items, countries and neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.agents.stage.partitions import StagePartition
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.streams.messages.columns import KIND
from headrace.streams.tables.partition import Changes, StatePartition
from headrace.streams.tables.rows import PackedRows

#: Meta records of `item-features`: how far each source was counted.
MARK = b"m:"

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class ItemPartition(StagePartition):
    """State of one partition, and what of it was not passed on yet. Pure: no broker, no clock.

    ``states`` are those of items, countries and neighbours, in this order.
    """

    def __init__(self, states: Sequence[StatePartition]) -> None:
        super().__init__(states)
        items, countries, pairs = states
        self.stats = ItemState(items.rows, countries.rows)
        self.neighbours = Neighbours(pairs.rows)
        self._touched: list[I64] = []  # rows of items changed since the online store was told
        self._marks = {
            int.from_bytes(key[len(MARK) :], "little"): int.from_bytes(value, "little", signed=True)
            for key, value in items.meta.items()
            if key.startswith(MARK)
        }

    def apply(self, events: npt.NDArray[np.void], offsets: I64) -> int:
        """Apply a batch; return how many records were new."""
        fresh = self._new(events)
        if not fresh.all():
            events, offsets = events[fresh], offsets[fresh]
        if not len(events):
            return 0
        pair = events["kind"] == KIND["pair"]
        items, countries = self.stats.apply(events[~pair], offsets[~pair])
        pairs = self.neighbours.apply(events[pair], offsets[pair])
        for state, rows in zip(self.states, (items, countries, pairs), strict=True):
            state.touch(rows)
        self._touched.append(items)
        return len(events)

    def _new(self, events: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return which records are not a source's repetition; numbers of one source only grow."""
        fresh = np.ones(len(events), bool)
        source, seq = events["source_partition"], events["source_seq"]
        for number in np.unique(source).tolist():
            at = np.flatnonzero(source == number)
            mine = seq[at]
            before = np.maximum.accumulate(np.r_[self._marks.get(number, -1), mine[:-1]])
            fresh[at] = mine > before
            self._marks[number] = max(self._marks.get(number, -1), int(mine.max()))
        return fresh

    def take(self) -> PackedRows:
        """Return and reset what the online store has not got of the items."""
        touched, self._touched = self._touched, []
        table = self.states[0].rows
        rows = np.unique(np.concatenate(touched)) if touched else np.zeros(0, np.int64)
        return table.pack(rows[table.data["key"][rows] != 0])

    def changes(self) -> list[Changes]:
        """Return what the changelogs have not got, one a table; the marks are with the items."""
        for source, mark in self._marks.items():
            self.states[0].set_meta(
                MARK + source.to_bytes(2, "little"), mark.to_bytes(8, "little", signed=True)
            )
        return [state.take() for state in self.states]
