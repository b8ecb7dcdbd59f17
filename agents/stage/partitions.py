"""The partitions a stage works on: each lives as long as the partitions of its state stores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from mode import Service

from headrace.agents.stage.store import StageStore
from headrace.streams.errors import FencedError
from headrace.streams.tables.partition import StatePartition
from headrace.streams.transport.batches import RecordBatch

P = TypeVar("P", bound="StagePartition")

#: What is assigned is looked at this often.
KEEP_EVERY_S = 0.5


class StagePartition:
    """What every stage knows of a partition. Pure: no broker, no clock.

    Attributes
    ----------
    number
        The partition.
    states
        Its part of every table of the stage.
    """

    def __init__(self, states: Sequence[StatePartition]) -> None:
        self.states = list(states)
        self.number = states[0].number
        self._applied: dict[str, int] = {}
        self._resumed: set[str] = set()

    def unseen(self, batch: RecordBatch) -> Sequence[Any]:
        """Return the records not applied yet.

        State that stays here over a rebalance is ahead of the committed offsets, from which records come
        again.
        """
        last = self._applied.get(batch.topic, -1)
        if batch.first_offset > last:
            return batch.records
        return [r for r in batch.records if r.offset > last]

    def resume(self) -> None:
        """Note that a rebalance went by: somebody else may have been here meanwhile."""
        self._resumed = set(self._applied)

    def continues(self, batch: RecordBatch) -> bool:
        """Return whether a batch goes on where its topic was left; after a rebalance it may not.

        Then another worker has seen the records between, even if it has left no trace of them in any row.
        """
        resumed = batch.topic in self._resumed
        self._resumed.discard(batch.topic)
        return not resumed or batch.first_offset <= self._applied[batch.topic] + 1

    def seen(self, batch: RecordBatch) -> None:
        """Note that a batch was applied."""
        self._applied[batch.topic] = max(self._applied.get(batch.topic, -1), batch.last_offset)


class StagePartitions(Generic[P]):
    """Stage partitions by number, each as long as its tables' partitions are the ones it was built on."""

    def __init__(self, stores: Sequence[StageStore], make: Callable[[list[StatePartition]], P]) -> None:
        self._stores = list(stores)
        self._make = make
        self._partitions: dict[int, P] = {}

    def get(self, number: int) -> P:
        """Return a partition, built anew when its state is not what it was built on.

        Raises
        ------
        FencedError
            When it is not this worker's.
        """
        states = [store.table.partition(number) for store in self._stores]
        part = self._partitions.get(number)
        if part is None or any(a is not b for a, b in zip(part.states, states, strict=True)):
            part = self._partitions[number] = self._make(states)
            for store, state in zip(self._stores, states, strict=True):
                store.attach(state)
        return part

    def __iter__(self) -> Iterator[P]:
        """Yield those that are still this worker's; the others are forgotten."""
        for number, part in list(self._partitions.items()):
            if all(s.table.active.get(number) is p for s, p in zip(self._stores, part.states, strict=True)):
                yield part
            else:
                self._drop(number)

    def resume(self) -> None:
        """Note that a rebalance goes by."""
        for part in self._partitions.values():
            part.resume()

    def keep_up(self) -> None:
        """Build what is assigned here and was not asked for yet; forget what is not any more.

        Raises
        ------
        FencedError
            During a rebalance.
        """
        for number in list(self._stores[0].table.active):
            self.get(number)
        for _ in self:
            pass

    def _drop(self, number: int) -> None:
        del self._partitions[number]
        for store in self._stores:
            if store.copy is not None:
                store.copy.detach(number)


class AssignmentKeeper(Service):
    """Sees to it that every partition assigned here is built and shown, also one whose input is silent."""

    mundane_level = "debug"

    def __init__(self, owned: StagePartitions[Any], **kwargs: Any) -> None:
        self._owned = owned
        super().__init__(**kwargs)

    @Service.task
    async def _look(self) -> None:
        while not self.should_stop:
            with contextlib.suppress(FencedError):  # a rebalance: later
                self._owned.keep_up()
            await self.sleep(KEEP_EVERY_S)
