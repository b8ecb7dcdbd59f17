"""follow_catalog: reads `items`, all of it in every serving worker; keeps the catalogue and the hot index.

Every worker needs the whole catalogue, so this agent has no consumer group: a tail reads the topic from its
beginning and delivers the batches.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import faust
import numpy as np

from headrace.agents.stage.mapped_catalog import MappedCatalog
from headrace.agents.wiring import Wiring
from headrace.serving.attributes import ItemAttributes
from headrace.serving.catalog import Catalog
from headrace.serving.catalog_changes import Origin
from headrace.serving.index.hot import HotIndex
from headrace.serving.vectors.swap import Swap
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import Item
from headrace.streams.topics import flow
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.tail import Tail, broadcast_channel
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("follow_catalog")
log = logging.getLogger(__name__)
C = TypeVar("C", Catalog, ItemAttributes)


def check_item(item: Item, record: Any) -> None:
    """Raise ``RejectedError`` when a record's key is not its item id: no tombstone could delete the item."""
    check_key(record, "item_id", item.item_id)


class Last(NamedTuple):
    """The last record of each item in a batch, with its offset: tombstones, and items."""

    gone: list[str]
    gone_at: list[int]
    put: list[Item]
    put_at: list[int]


def last_of_each(records: Sequence[Any], decoder: Decoder[Item]) -> Last:
    """Return the last record of each item. Bad records and those without a key are left out."""
    tombstones = {r.key.decode("utf-8", "replace"): r.offset for r in records if r.value is None and r.key}
    decoded = decoder.batch([r for r in records if r.value is not None])
    items = {item.item_id: (item, r.offset) for item, r in zip(decoded.values, decoded.records, strict=True)}
    for item_id in tombstones.keys() & items.keys():
        if tombstones[item_id] < items[item_id][1]:
            del tombstones[item_id]
        else:
            del items[item_id]
    return Last(
        list(tombstones),
        list(tombstones.values()),
        [item for item, _ in items.values()],
        [offset for _, offset in items.values()],
    )


class CatalogFollower(Generic[C]):
    """Applies records of `items` to a catalogue and, if given, a hot index. Pure.

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
        self._decoder = Decoder(Item, max_bytes, check_item)
        self.partitions = 0

    def apply(self, batch: RecordBatch, now: int = 0) -> None:
        """Apply a batch, in order. A tombstone deletes its item; bad records are skipped.

        Items that are too old for the hot index at ``now`` (ms) do not go there.
        """
        records: Sequence[Any] = batch.records
        if self.partitions:
            wrong = misplaced(records, batch.partition, self.partitions)
            if wrong.any():
                records = [r for r, skip in zip(records, wrong.tolist(), strict=True) if not skip]
        last = last_of_each(records, self._decoder)
        if not self._apply(last, batch.partition, now):
            for record in records:  # two ids with one hash: which one stays depends on the order
                if not self._apply(last_of_each([record], self._decoder), batch.partition, now):
                    told = {"action": "id_collision"}
                    log.warning("item skipped: another one has the hash of %r", record.key, extra=told)

    def _apply(self, last: Last, partition: int, now: int) -> bool:
        """Apply records of different items; False when two ids have one hash, nothing was changed then."""
        gone, put = (
            Origin(partition, np.array(offsets, np.int64), now) for offsets in (last.gone_at, last.put_at)
        )
        try:
            every = self.catalog.check_ids([*last.gone, *(item.item_id for item in last.put)])
        except RejectedError:
            return False
        dropped, keys = every[: len(last.gone)], every[len(last.gone) :]
        if last.gone:
            self.catalog.drop_many(last.gone, gone, dropped)
        if last.put:
            self.catalog.put_many(last.put, put, keys)
        if self._hot is not None and isinstance(self.catalog, Catalog):
            for key in dropped.tolist():
                self._hot.drop(key)
            vectors = self.catalog.vectors.of(keys)
            for key, vector, item in zip(keys.tolist(), vectors, last.put, strict=True):
                self._hot.put(key, vector, item.published_ts, max(now, item.published_ts))
        return True

    async def follow(self, batch: RecordBatch, wiring: Wiring) -> None:
        """Apply a batch; before the first one, ask how many partitions the topic has.

        Raises
        ------
        KafkaError
            When the broker does not answer.
        """
        if not self.partitions:
            self.partitions = await wiring.sender.partitions_of(batch.topic)
        self.apply(batch, wiring.clock.now_ms())


def attach(
    app: faust.App, wiring: Wiring, follower: CatalogFollower[Catalog], hot: HotIndex, swap: Swap
) -> tuple[Tail, MappedCatalog]:
    """Add the agent to the app; return the services it needs: the tail that it reads from comes first.

    Bad items are skipped: every serving worker reads them. track_users, whose group reads each once, writes
    them to `dead-letters`.
    """
    channel = broadcast_channel(app)
    mapped = MappedCatalog(wiring, follower.catalog, hot, swap=swap)
    tail = Tail(
        wiring.settings,
        wiring.topics.items,
        channel,
        name=FLOW.name,
        starts=mapped.starts,
        turned=mapped.turned,
    )
    mapped.tail = tail

    @app.agent(channel, name=FLOW.name)
    async def follow_catalog(stream: Any) -> None:
        async for batch in stream:
            await follower.follow(batch, wiring)
            mapped.applied[batch.partition] = batch.last_offset + 1
            # A record timestamp in the future must not expire other items.
            hot.expire(min(wiring.clock.now_ms(), max(r.timestamp for r in batch)))

    return tail, mapped
