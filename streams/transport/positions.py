"""Where the partitions are read, and whether their logs are still those that were read.

At the start of an assignment every partition is compared with its log (`starts`). While the consumer runs, a
partition is *in doubt* after a failed fetch: the broker may have restarted without its last records, or the
topic may be another one. Nothing of it is delivered until it was compared again. All methods run in the
consumer's thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from .fetching import Fetched
from .log_view import look
from .places import NOTHING, Place, Source, place_after
from .plain_gathering import records_before
from .starts import SAME, Start, Verdict, View, compare, decide

#: Faust's compare equal.
TP: TypeAlias = TopicPartition

log = logging.getLogger(__name__)

#: Pause before a comparison that failed is tried again.
RETRY_S = 0.2


class Taken(NamedTuple):
    """Records taken from a partition.

    Attributes
    ----------
    tp
        The partition.
    records
        Its next records; may be empty.
    position
        Offset after them.
    highwater
        End offset of the partition.
    seeks
        Number of seeks of the partition before they were taken: shows whether they are from before a seek.
    source
        The log they are from.
    turn
        Offset at which the log turned out to be another one, or to have lost its last records: what follows
        has another base. None: nothing such happened since the last records.
    """

    tp: TP
    records: Sequence[Any]
    position: int
    highwater: int
    seeks: int
    source: Source
    turn: int | None = None


class Positions:
    """The positions of one assignment.

    Parameters
    ----------
    consumer
        Returns the running ``AIOKafkaConsumer``.
    seek
        Moves a partition to an offset, and drops what was fetched of it.
    turned
        Called with (partition, offset, end) when a running reader goes on at ``offset`` of another log, or of
        one that has lost its last records; ``end`` is its end offset.

    Attributes
    ----------
    unread
        Number of records that were deleted before they were read, by partition, since the worker started.
    uncommitted
        Where partitions start of which the group has committed nothing, though a state has something.
    """

    def __init__(
        self,
        consumer: Callable[[], Any],
        seek: Callable[[TP, int], None],
        turned: Callable[[TP, int, int], None] = lambda tp, offset, end: None,
    ) -> None:
        self._consumer, self._seek, self._on_turn = consumer, seek, turned
        self._places: dict[TP, Place] = {}  # after the records taken last
        self._next: dict[TP, int] = {}  # the offset to be taken next
        self._turns: dict[TP, tuple[int, int]] = {}  # (offset, base) that is still to come
        self._turned: dict[TP, int] = {}  # turns that the next `Taken` must tell
        self._new: dict[TP, bytes] = {}  # topic ids of partitions that start where a new group does
        self._again = 0.0
        self.unread: dict[TP, int] = {}
        self.uncommitted: dict[TP, Place] = {}

    def reset(self) -> None:
        """Forget all partitions: there is another assignment."""
        for known in (self._places, self._next, self._turns, self._turned, self._new, self.uncommitted):
            known.clear()
        self._doubts().clear()

    def _doubts(self) -> set[tuple[str, int]]:
        doubts: set[tuple[str, int]] = self._consumer()._fetcher._client.doubts
        return doubts

    async def _look(self, places: Mapping[TP, Place]) -> dict[TP, View]:
        return await look(self._consumer()._client, places)

    # -- the start of an assignment

    async def read_from(self, offsets: Mapping[TP, int]) -> None:
        """Note where a reader without a group starts."""
        wanted = {tp: Place(offset) for tp, offset in offsets.items()}
        views = await persist(lambda: self._look(wanted), lambda: True)
        for tp, place in wanted.items():
            self._places[tp] = place._replace(topic_id=views[tp].topic_id)
            self._next[tp] = place.next

    async def starts(
        self, tps: Iterable[TP], committed: Mapping[TP, tuple[int, str]], states: Mapping[TP, Place]
    ) -> dict[TP, int]:
        """Return the offset to read each partition from; without those of which nothing is known.

        Parameters
        ----------
        committed
            Committed offset of each partition and its metadata.
        states
            Place up to which the state of an agent has everything.

        Raises
        ------
        KafkaError
            When the broker does not answer.
        """
        kept = {
            tp: place for tp, (_, text) in committed.items() if (place := Place.of_text(text)) is not None
        }
        every = list(tps)
        known = [tp for tp in every if tp in committed or tp in states]
        self._doubts().difference_update(known)
        first = {tp: states.get(tp) or kept.get(tp) or NOTHING for tp in every}
        views = await self._look(first)
        self._new = {tp: views[tp].topic_id for tp in every if tp not in known}
        for tp in self._new:
            self._places.pop(tp, None)
        verdicts = {tp: compare(first[tp], views[tp]) for tp in known}
        # A second place tells more only when it is after the first one, or that one does not fit.
        second = {
            tp: kept[tp]
            for tp in known
            if tp in states and tp in kept and (verdicts[tp] is not SAME or kept[tp].next > states[tp].next)
        }
        later = await self._look(second)
        out = {}
        for tp in known:
            state = (states[tp], verdicts[tp]) if tp in states else None
            pair = self._kept(kept.get(tp), state is None, verdicts[tp], later.get(tp))
            offset = committed[tp][0] if tp in committed else None
            start = decide(views[tp], offset, state, pair)
            self._begin(tp, start, views[tp], [place for place, _ in filter(None, (state, pair))])
            out[tp] = start.offset
        self.uncommitted = {tp: self._places[tp] for tp in known if tp not in committed and out[tp]}
        return out

    @staticmethod
    def _kept(
        place: Place | None, only: bool, verdict: Verdict, view: View | None
    ) -> tuple[Place, Verdict] | None:
        if place is None:
            return None
        if only:
            return place, verdict
        return place, SAME if view is None else compare(place, view)

    def _begin(self, tp: TP, start: Start, view: View, known: list[Place]) -> None:
        self._tell(tp, start)
        fits = [place for place in known if place.next == start.offset and place.base == start.base]
        place = fits[0] if fits else Place(start.offset, start.base)
        self._places[tp] = place._replace(topic_id=view.topic_id)
        self._next[tp] = start.offset
        self._turned.pop(tp, None)
        self._turns.pop(tp, None)
        if start.turn is not None:
            self._turns[tp] = start.turn

    def _tell(self, tp: TP, start: Start) -> None:
        name = f"{tp.topic}-{tp.partition}"
        fields = {"topic": tp.topic, "partition": tp.partition}
        for action, text in start.warnings:
            log.warning("%s %s", name, text, extra={"action": action, **fields})
        if start.unread is not None:
            first, end = start.unread
            self.unread[tp] = self.unread.get(tp, 0) + end - first
            log.warning(
                "records %d..%d of %s were deleted unread", first, end - 1, name,
                extra={"action": "deleted_unread", "records": end - first, **fields},
            )  # fmt: skip

    # -- while it runs

    def moved(self, tp: TP, offset: int) -> None:
        """Note a seek: the records before ``offset`` are not those taken last."""
        place = self._places.get(tp)
        if place is not None:
            self._places[tp] = Place(offset, place.base, topic_id=place.topic_id)
            self._next[tp] = offset
            self._turns.pop(tp, None)

    def take(self, part: Fetched, seeks: int, epoch: int) -> list[Taken]:
        """Note what was taken of a partition; return it, in two parts when a turn lies within."""
        tp = part.tp
        if tp in self._new:
            first = part.records[0].offset if part.records else part.position
            self._places[tp] = Place(first, topic_id=self._new.pop(tp))
        place = self._places.get(tp)
        if place is None:
            return [Taken(tp, part.records, part.position, part.highwater, seeks, Source())]
        turn = self._turns.get(tp)
        if turn is not None and part.position > turn[0]:
            return self._take_turn(tp, part, seeks, epoch, *self._turns.pop(tp))
        source = Source(place.base, epoch, place.topic_id)
        if part.records:
            self._places[tp] = place_after(part.records[-1], source)
        self._next[tp] = part.position
        turned = self._turned.pop(tp, None)
        return [Taken(tp, part.records, part.position, part.highwater, seeks, source, turned)]

    def _take_turn(self, tp: TP, part: Fetched, seeks: int, epoch: int, cut: int, base: int) -> list[Taken]:
        before = records_before(part.records, cut)
        out = self.take(part._replace(records=before, position=cut), seeks, epoch)
        self._places[tp] = Place(cut, base, topic_id=self._places[tp].topic_id)
        self._turned[tp] = cut
        return out + self.take(part._replace(records=part.records[len(before) :]), seeks, epoch)

    def place(self, tp: TP) -> Place | None:
        """Return the place after the records taken last, None when nothing is known of the partition."""
        return self._places.get(tp)

    def doubtful(self) -> set[TP]:
        """Return the partitions of which nothing may be delivered before ``settle``."""
        doubts = self._doubts()
        return {TP(*tp) for tp in doubts if tp in self._places} if doubts else set()

    async def settle(self) -> None:
        """Compare the partitions in doubt with their logs; go on where they go on."""
        if time.monotonic() < self._again:
            return
        doubts, tps = self._doubts(), self.doubtful()
        doubts.clear()
        places = {tp: self._places[tp] for tp in tps}
        try:
            views = await self._look(places)
        except KafkaError as exc:
            log.debug("partitions in doubt could not be compared: %r", exc)
            doubts.update(tps)
            self._again = time.monotonic() + RETRY_S
            return
        for tp, view in views.items():
            if self._places.get(tp) is places[tp]:  # neither a seek nor another assignment meanwhile
                self._go_on(tp, view)

    def _go_on(self, tp: TP, view: View) -> None:
        place, offset = self._places[tp], self._next[tp]
        verdict = compare(place, view)
        start = decide(view, offset, None, (place, verdict))
        self._tell(tp, start)
        if verdict is not SAME:
            self._places[tp] = Place(start.offset, start.base, topic_id=view.topic_id)
            self._turned[tp] = start.offset
            self._turns.pop(tp, None)
            self._on_turn(tp, start.offset, view.end)
        self._next[tp] = start.offset
        try:
            self._seek(tp, start.offset)
        except IllegalStateError:
            log.debug("%s-%d was revoked meanwhile", *tp)


async def persist(positions: Callable[[], Any], active: Callable[[], bool]) -> Any:
    """Return the result of ``positions()``; while the assignment is active, try again when it fails.

    Raises
    ------
    IllegalStateError
        When the assignment ended.
    """
    while active():
        try:
            return await positions()
        except KafkaError as exc:
            if not exc.retriable:
                raise
            log.debug("positions could not be compared: %r", exc)
            await asyncio.sleep(RETRY_S)
    raise IllegalStateError("The partitions were revoked meanwhile")
