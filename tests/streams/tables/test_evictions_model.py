"""Any sequence of changes, evictions, restores, snapshots and recoveries gives what a dict gives."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from state_rows import Record, keys

from headrace.streams.tables import spill as spill_module
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows, RowTable
from headrace.streams.tables.snapshots import read_snapshot, write_snapshot
from headrace.streams.tables.spill import SpillFolder

TOPIC = "t-user-state"
ROW = np.dtype(
    [
        ("key", "u8"),
        ("offset", "i8"),
        ("second", "i8"),
        ("updated", "i8"),
        ("layout", "u4"),
        ("count", "u4"),
        ("lasting", "?"),
        ("rest", "u1", 39),
    ]
)
ORDER = ("offset", "second")
KEYS = st.integers(1, 6)
SOME = st.lists(KEYS, min_size=1, max_size=8)


@pytest.fixture(autouse=True, scope="module")
def small_segments() -> Iterator[None]:
    """Segments of a few rows, so that they are filled, emptied and used again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill_module, "SEGMENT_BYTES", 200)
        patch.setattr("headrace.streams.tables.evicted.SEGMENT_BYTES", 200)
        patch.setattr(spill_module, "SPARE_SEGMENTS", 1)
        patch.setattr(spill_module, "GAP_BYTES", 20)
        patch.setattr("headrace.streams.tables.snapshots.CHUNK_ROWS", 3)
        yield


class Evictions(RuleBasedStateMachine):
    """A stage with one partition, its changelog in a list, its snapshots in a folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.log: list[Record] = []
        self.part = self.empty()
        self.model: dict[int, tuple[int, int, int, bool]] = {}  # count, offset, updated, lasting
        self.durable: dict[int, tuple[int, int, int, bool]] = {}
        self.offset = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    def empty(self) -> StatePartition:
        spills = SpillFolder(self.path / "spill")
        rows = RowTable(ROW, order=ORDER)
        return StatePartition(0, rows, order=ORDER, lasting="lasting", spills=spills)

    @rule(some=SOME, updated=st.integers(0, 50), lasting=st.booleans())
    def change(self, some: list[int], updated: int, lasting: bool) -> None:
        wanted = np.unique(keys(*some))
        assert not len(self.part.restore(wanted))
        rows = self.part.rows.take(wanted)
        self.offset += 1
        data = self.part.rows.data
        data["count"][rows] += 1
        data["offset" if updated % 2 else "second"][rows] = self.offset
        data["updated"][rows], data["lasting"][rows] = updated, lasting
        self.part.touch(rows)
        for key in wanted.tolist():
            row = data[self.part.rows.row(key)]
            count = self.model.get(key, (0,))[0] + 1
            assert row["count"] == count
            self.model[key] = count, int(row["offset"]), updated, lasting

    @rule(some=SOME)
    def delete(self, some: list[int]) -> None:
        self.part.delete(some)
        for key in some:
            self.model.pop(key, None)

    @rule(before=st.integers(0, 50), share=st.sampled_from([(0.0, 1.0), (0.0, 0.4), (0.4, 1.0)]))
    def expire(self, before: int, share: tuple[float, float]) -> None:
        unsaved = set(self.model.items()) ^ set(self.durable.items())
        gone = self.part.expire(before, share).tolist()
        for key in gone:
            _, _, updated, lasting = self.model.pop(key)
            assert updated < before
            assert not lasting
        if share == (0.0, 1.0):
            left = {
                k for k, (_, _, updated, lasting) in self.model.items() if updated < before and not lasting
            }
            assert left <= {key for key, _ in unsaved}, "only rows that are not in the changelog stay"

    @rule(before=st.integers(0, 50))
    def evict_idle(self, before: int) -> None:
        self.part.evict(before_ms=before)

    @rule(most=st.integers(1, 5))
    def evict_to(self, most: int) -> None:
        gone = self.part.evict(max_rows=most)
        assert len(np.unique(gone)) == len(gone)
        assert len(self.part.rows) <= most or not len(self.part._clean(self.part.rows.keys()))

    @rule(some=SOME)
    def restore(self, some: list[int]) -> None:
        assert not len(self.part.restore(keys(*some)))

    @rule(fails=st.booleans())
    def write(self, fails: bool) -> None:
        changes = self.part.take()
        if fails:
            self.part.put_back(changes)
            return
        end = len(self.log)
        self.log += [Record(end + i, key, row) for i, (key, row, *_) in enumerate(changes.records())]
        self.part.position = len(self.log)
        self.part.written(changes)
        self.durable = dict(self.model)

    @rule()
    def snapshot(self) -> None:
        self.write(fails=False)

        async def kept(promise: tuple[int, int]) -> bool:
            return self.part.kept(promise) is True

        assert asyncio.run(write_snapshot(self.part, self.path, TOPIC, kept))

    @rule(from_file=st.booleans(), most=st.integers(1, 6), step=st.integers(1, 9))
    def crash(self, from_file: bool, most: int, step: int) -> None:
        self.part = self.empty()
        if from_file:
            read_snapshot(self.part, self.path, TOPIC, 0, len(self.log), max_rows=most)
        for start in range(self.part.position, len(self.log), step):
            records = self.log[start : start + step]
            self.part.apply(records, records[-1].offset + 1)
            self.part.evict(max_rows=most)
        self.part.own()
        assert not self.part.dirty, "nothing seems to be of a late writer"
        assert len(self.part.rows) <= most
        self.model = dict(self.durable)

    @rule(key=KEYS, alike=st.booleans(), evict=st.booleans())
    def late_write(self, key: int, alike: bool, evict: bool) -> None:
        """A worker that no longer owns the partition writes an old row."""
        self.write(fails=False)
        if evict:
            self.part.evict(before_ms=51)
        if key not in self.model:
            return
        old = RowTable(ROW)
        row = old.take(keys(key))
        old.data["offset"][row] = self.durable[key][1] if alike else -1
        old.data["second"][row] = -1
        self.log.append(Record(len(self.log), key.to_bytes(8, "little"), old.pack(row)[0]))
        self.part.apply(self.log[-1:], len(self.log))
        self.part.own()
        self.write(fails=False)

    @invariant()
    def everything_is_there(self) -> None:
        packed: PackedRows = self.part.packed(keys(*self.model, 99))
        both = RowTable(ROW)
        both.load(list(packed))
        found = both.data[both.rows()]
        assert len(packed) == len(self.model)
        seen = {
            int(r["key"]): (int(r["count"]), int(r["offset"]), int(r["updated"]), bool(r["lasting"]))
            for r in found
        }
        assert seen == self.model
        assert len(self.part.rows) + self.part.evicted_count == len(self.model)
        assert not list((self.path / "spill").glob("*"))


TestEvictions = Evictions.TestCase
TestEvictions.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
