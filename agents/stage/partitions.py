"""The partitions of a stage: each is built on the partitions of the state stores, and dropped with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from mode import Service

from headrace.agents.stage.copied_store import CopiedStore
from headrace.agents.stage.flushes import Flushes
from headrace.serving.store.applied import Applied, Reached
from headrace.streams.errors import FencedError
from headrace.streams.tables.partition import StatePartition
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.places import NOTHING, Place
from headrace.streams.transport.record_list import chosen, offsets_of

P = TypeVar("P", bound="StagePartition")

#: Key prefix of the meta records with the place up to which the state has everything, by topic. Such a key is
#: longer than that of a row.
PLACE = b"place-in:"
#: How often the assignment is checked.
KEEP_EVERY_S = 0.5


def place_key(topic: str) -> bytes:
    """Return the key of the meta record with the place in a topic."""
    return PLACE + topic.encode()


class StagePartition:
    """Base of a stage's partition: its states, and the offsets that were applied. Pure: no broker, no clock.

    All offsets are effective ones: offset of the log + ``batch.base``. The first state keeps the place up to
    which every topic was applied, as meta records.

    Attributes
    ----------
    number
        Number of the partition.
    states
        Its partition of every state store of the stage.
    """

    def __init__(self, states: Sequence[StatePartition]) -> None:
        self.states = list(states)
        self.number = states[0].number
        self._applied: dict[str, int] = {}
        self._resumed: set[str] = set()
        self._places: dict[str, Place] = {}
        for key, value in states[0].meta.items():
            if key.startswith(PLACE) and (place := Place.decode(value)) is not None:
                self._places[key[len(PLACE) :].decode()] = place

    def base(self, topic: str) -> int:
        """Return the base of the effective offsets of a topic."""
        place = self._places.get(topic)
        return 0 if place is None else place.base

    def turn(self, batch: RecordBatch) -> None:
        """Note the base of a log that begins with ``batch``."""
        first = Place(batch.first_offset, batch.base)
        self._places[batch.topic] = (
            first if batch.place is None else first._replace(topic_id=batch.place.topic_id)
        )
        self.states[0].set_meta(place_key(batch.topic), self._places[batch.topic].encode())

    def reached(self, topic: str, elsewhere: dict[int, int] | None = None) -> Reached:
        """Return up to where the rows have a topic; ``elsewhere`` is what was sent on to this partition."""
        place = self._places.get(topic)
        seen = -1 if place is None else place.seen - 1
        last = max(seen, self._applied.get(topic, -1))
        return Reached(last, self.base(topic), elsewhere or {})

    def applied(self) -> Applied | None:
        """Return what beats say of the rows of the first state; None: nothing."""
        return None

    def unseen(self, batch: RecordBatch) -> Sequence[Any]:
        """Return the records of a batch that were not applied yet.

        After a rebalance, records are delivered again from the committed offset. State that stayed on this
        worker may have applied some of them.
        """
        last = self._applied.get(batch.topic, -1) - batch.base
        if batch.first_offset > last:
            return batch.records
        return chosen(batch.records, offsets_of(batch.records) > last)

    def resume(self) -> None:
        """Note a rebalance: another worker may have owned the partition meanwhile."""
        self._resumed = set(self._applied)

    def continues(self, batch: RecordBatch) -> bool:
        """Return whether a batch follows the last applied offset of its topic; after a rebalance it may not.

        Then another worker has processed the records between, even if they changed no row.
        """
        resumed = batch.topic in self._resumed
        self._resumed.discard(batch.topic)
        return not resumed or batch.first_offset + batch.base <= self._applied[batch.topic] + 1

    def seen(self, batch: RecordBatch) -> None:
        """Note that a batch was applied; a durable flush writes its place after the rows."""
        last = batch.last_offset + batch.base
        self._applied[batch.topic] = max(self._applied.get(batch.topic, -1), last)
        place, known = batch.place, self._places.get(batch.topic)
        if place is not None and (known is None or place.seen > known.seen):
            self._places[batch.topic] = place
            self.states[0].set_meta(place_key(batch.topic), place.encode())


class StagePartitions(Generic[P]):
    """The stage's partitions by number.

    A partition is built again when one of its state partitions has been replaced by another object.
    """

    def __init__(self, stores: Sequence[CopiedStore], make: Callable[[list[StatePartition]], P]) -> None:
        self._stores = list(stores)
        self._make = make
        self._partitions: dict[int, P] = {}

    def get(self, number: int) -> P:
        """Return a partition; build it when there is none, or when its state was replaced.

        Raises
        ------
        FencedError
            When this worker does not own it, or a rebalance has not ended.
        """
        states = [store.state_store.partition(number) for store in self._stores]
        part = self._partitions.get(number)
        if part is None or any(a is not b for a, b in zip(part.states, states, strict=True)):
            part = self._partitions[number] = self._make(states)
            for store, state in zip(self._stores, states, strict=True):
                store.attach(state, part.applied() if store is self._stores[0] else None)
        return part

    def check(self, part: P) -> None:
        """Raise ``FencedError`` when a partition is not this worker's any more, or was replaced.

        Call it after an await, before a partition that was looked up earlier is changed: it shares its rows
        with the one in its place, but nobody writes its changes.
        """
        if self.get(part.number) is not part:
            raise FencedError(f"partition {part.number} was given away meanwhile, and came back")

    def place(self, topic: str, number: int) -> Place | None:
        """Return the place up to which a partition has everything of a topic.

        ``NOTHING`` for an empty state; None when the state does not say it (an older version wrote it), or
        another worker owns it.
        """
        state = self._stores[0].state_store.active.get(number)
        if state is None:
            return None
        packed = state.meta.get(place_key(topic))
        if packed is not None:
            return Place.decode(packed)
        return None if len(state.rows) or state.evicted_count or state.meta else NOTHING

    def __iter__(self) -> Iterator[P]:
        """Yield the partitions that this worker still owns; drop the others."""
        for number, part in list(self._partitions.items()):
            if all(
                s.state_store.active.get(number) is p for s, p in zip(self._stores, part.states, strict=True)
            ):
                yield part
            else:
                self._drop(number)

    def resume(self) -> None:
        """Note a rebalance in every partition."""
        for part in self._partitions.values():
            part.resume()

    def keep_up(self) -> None:
        """Build every assigned partition that does not exist yet; drop those that are not assigned any more.

        Raises
        ------
        FencedError
            During a rebalance.
        """
        for number in list(self._stores[0].state_store.active):
            self.get(number)
        for _ in self:
            pass

    def _drop(self, number: int) -> None:
        del self._partitions[number]
        for store in self._stores:
            if store.copy is not None:
                store.copy.detach(number)


class AssignmentKeeper(Service):
    """Builds every assigned partition, one without input too, so that its rows are in the online store.

    It also flushes what a rebalance has left in memory alone. Mostly the batches are delivered again and lead
    to a flush; but not when an operator has moved the group beyond the end.
    """

    mundane_level = "debug"

    def __init__(self, owned: StagePartitions[Any], flushes: Flushes[Any], **kwargs: Any) -> None:
        self._owned, self._flushes = owned, flushes
        self._left = False
        super().__init__(**kwargs)

    @Service.task
    async def _look(self) -> None:
        while not self.should_stop:
            try:
                self._owned.keep_up()
            except FencedError:  # during a rebalance: try again later
                self._left = False
            else:
                await self._flush_left()
            await self.sleep(KEEP_EVERY_S)

    async def _flush_left(self) -> None:
        """Flush when changes have waited for two looks without a batch whose ack waits for the flush."""
        clean = all(state.clean for part in self._owned for state in part.states)
        before, self._left = self._left, not (clean or len(self._flushes.held))
        if before and self._left:
            await self._flushes.flush_left()
