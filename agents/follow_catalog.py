"""follow_catalog: reads `items`, all of it in every serving worker; keeps the catalogue and the hot index.

Every worker needs the whole catalogue, so this agent has no consumer group: a tail reads the topic from its
beginning. It delivers what has come of all partitions together, so that few items do not each pay the price
of a batch. The records are applied in slices of a few milliseconds; replies go out between them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import faust
import numpy as np

from headrace.agents.stage.item_records import Last, item_decoder, last_of_each
from headrace.agents.stage.mapped_catalog import MappedCatalog
from headrace.agents.stage.slices import Pace, in_slices
from headrace.agents.wiring import Wiring
from headrace.serving.attributes import ItemAttributes
from headrace.serving.catalog import Catalog
from headrace.serving.catalog_changes import Origin
from headrace.serving.index.hot import HotIndex
from headrace.serving.vectors.swap import Swap
from headrace.streams.errors import RejectedError
from headrace.streams.messages.schemas import Item
from headrace.streams.topics import flow
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.tail import GatheringTail, Tail, broadcast_channel
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.record_list import chosen, timestamps_of

FLOW = flow.agent("follow_catalog")
log = logging.getLogger(__name__)
C = TypeVar("C", Catalog, ItemAttributes)


class CatalogFollower(Generic[C]):
    """Applies records of `items` to a catalogue and, if given, a hot index.

    Parameters
    ----------
    catalog
        The catalogue.
    hot
        The hot index, or None.
    max_bytes
        Larger records are skipped.

    Attributes
    ----------
    partitions
        Number of partitions of `items`. Records in another partition than their key's, and records without a
        key, are skipped: track_users sends them on to the right one. 0: not known yet, none is skipped.
    """

    def __init__(self, catalog: C, hot: HotIndex | None = None, max_bytes: int = 65_536) -> None:
        self.catalog: C = catalog
        self._hot = hot
        self._decoder = item_decoder(max_bytes)
        self._pace = Pace()
        self.partitions = 0

    def apply(self, batch: RecordBatch, now: int = 0) -> None:
        """Apply a batch, in order. See ``apply_all``."""
        self.apply_all([batch], now)

    def apply_all(self, batches: Sequence[RecordBatch], now: int = 0) -> None:
        """Apply batches of different partitions, each in order.

        A tombstone deletes its item; bad records are skipped. Items that are too old for the hot index at
        ``now`` (ms) do not go there.
        """
        if len(batches) > 1 and not self.partitions:  # an item may be in several
            for batch in batches:
                self.apply_all([batch], now)
            return
        parts = [(batch.partition, self._placed(batch)) for batch in batches]
        last = [(partition, last_of_each(records, self._decoder)) for partition, records in parts]
        if self._apply(last, now):
            return
        for partition, records in parts:
            for record in records:  # two ids with one hash: which one stays depends on the order
                if not self._apply([(partition, last_of_each([record], self._decoder))], now):
                    told = {"action": "id_collision"}
                    log.warning("item skipped: another one has the hash of %r", record.key, extra=told)

    def _placed(self, batch: RecordBatch) -> Sequence[Any]:
        """Return the records that are in the partition of their keys."""
        if not self.partitions:
            return batch.records
        wrong = misplaced(batch.records, batch.partition, self.partitions)
        return chosen(batch.records, ~wrong) if wrong.any() else batch.records

    def _apply(self, parts: Sequence[tuple[int, Last]], now: int) -> bool:
        """Apply records of different items, by partition.

        Returns
        -------
        False when two ids have one hash; nothing was changed then.
        """
        gone = _origin([(partition, last.gone_at) for partition, last in parts], now)
        put = _origin([(partition, last.put_at) for partition, last in parts], now)
        ids: list[str] = [item_id for _, last in parts for item_id in last.gone]
        items: list[Item] = [item for _, last in parts for item in last.put]
        try:
            every = self.catalog.check_ids([*ids, *(item.item_id for item in items)])
        except RejectedError:
            return False
        dropped, keys = every[: len(ids)], every[len(ids) :]
        if ids:
            self.catalog.drop_many(ids, gone, dropped)
        if items:
            self.catalog.put_many(items, put, keys)
        if self._hot is not None and isinstance(self.catalog, Catalog):
            self._hot.drop_many(dropped)
            if items:
                published = np.array([item.published_ts for item in items], np.int64)
                self._hot.put_many(keys, self.catalog.vectors.of(keys), published, now)
        return True

    async def follow(
        self,
        batches: Sequence[RecordBatch],
        wiring: Wiring,
        applied: dict[int, int] | None = None,
        answering: Callable[[], bool] = lambda: True,
    ) -> None:
        """Apply batches of different partitions, in slices; first of all, ask how many partitions there are.

        Parameters
        ----------
        applied
            Partition -> next offset to be applied; brought up to date after every slice.
        answering
            Whether others wait for the loop. If not, slices are long.

        Raises
        ------
        KafkaError
            When the broker does not answer.
        """
        if not self.partitions and batches:
            self.partitions = await wiring.sender.partitions_of(batches[0].topic)
        done = {} if applied is None else applied
        await in_slices(
            batches, lambda part: self._slice(part, wiring.clock.now_ms(), done), self._pace, answering
        )

    def _slice(self, part: list[RecordBatch], now: int, applied: dict[int, int]) -> None:
        self.apply_all(part, now)
        applied |= {batch.partition: batch.last_offset + 1 for batch in part}
        if self._hot is not None:
            # A record timestamp in the future must not expire other items.
            newest = max(int(timestamps_of(batch.records).max()) for batch in part)
            self._hot.expire(min(now, newest))


def _origin(parts: list[tuple[int, list[int]]], now: int) -> Origin:
    """Return where records are from: the offsets of those of each partition, one after the other."""
    partition = np.repeat([partition for partition, _ in parts], [len(offsets) for _, offsets in parts])
    return Origin(partition, np.array([offset for _, offsets in parts for offset in offsets], np.int64), now)


def attach(
    app: faust.App, wiring: Wiring, follower: CatalogFollower[Catalog], hot: HotIndex, swap: Swap
) -> tuple[Tail, MappedCatalog]:
    """Add the agent to the app; return the services it needs: the tail that it reads from comes first.

    Bad items are skipped: every serving worker reads them. track_users, whose group reads each once, writes
    them to `dead-letters`.
    """
    channel = broadcast_channel(app)
    mapped = MappedCatalog(wiring, follower.catalog, hot, swap=swap)

    async def hand_over(batches: list[RecordBatch]) -> None:
        """Return when the agent has applied them: what the tail has delivered is in the catalogue."""
        over = asyncio.get_running_loop().create_future()
        await channel.put((batches, over))
        await over

    tail = GatheringTail(
        wiring.settings,
        wiring.topics.items,
        hand_over,
        name=FLOW.name,
        starts=mapped.starts,
        turned=mapped.turned,
    )
    mapped.tail = tail

    @app.agent(channel, name=FLOW.name)
    async def follow_catalog(stream: Any) -> None:
        async for batches, over in stream:
            try:
                await follower.follow(batches, wiring, mapped.applied, tail.caught_up.is_set)
            except Exception as exc:
                if not over.done():
                    over.set_exception(exc)  # nobody else would tell the tail
                raise
            if not over.done():  # the tail may have been stopped
                over.set_result(None)

    return tail, mapped
