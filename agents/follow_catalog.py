"""follow_catalog: reads `items`, all of it in every serving worker; keeps the catalogue and the hot index.

Every worker needs the whole catalogue, so this agent has no consumer group: a tail reads the topic from its
beginning and delivers the batches.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import faust
import numpy as np

from headrace.agents.wiring import Wiring
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import Item
from headrace.streams.topics import flow
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.tail import Tail, broadcast_channel
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("follow_catalog")
log = logging.getLogger(__name__)


def check_item(item: Item, record: Any) -> None:
    """Raise ``RejectedError`` when a record's key is not its item id: no tombstone could delete the item."""
    check_key(record, "item_id", item.item_id)


class CatalogFollower:
    """Applies records of `items` to a catalogue and, if given, a hot index. Pure.

    Parameters
    ----------
    catalog
        The catalogue; by default a new one.
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

    def __init__(
        self, catalog: Catalog | None = None, hot: HotIndex | None = None, max_bytes: int = 65_536
    ) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self._hot = hot
        self._decoder = Decoder(Item, max_bytes, check_item)
        self.partitions = 0
        self._put: dict[int, int] = {}  # of the present batch, when each item was published

    def apply(self, batch: RecordBatch, now: int = 0) -> None:
        """Apply a batch, in order. A tombstone deletes its item; bad records are skipped.

        Items that are too old for the hot index at ``now`` (ms) do not go there.
        """
        records: Sequence[Any] = batch.records
        if self.partitions:
            wrong = misplaced(records, batch.partition, self.partitions)
            if wrong.any():
                records = [r for r, skip in zip(records, wrong.tolist(), strict=True) if not skip]
        for record in records:
            try:
                self._apply(record, now)
            except RejectedError as exc:
                if exc.reason == "id_collision":
                    log.warning("item skipped: %s", exc, extra={"action": "id_collision"})
        self._index(now)

    def _index(self, now: int) -> None:
        """Put the items of the batch into the hot index; their vectors are computed together."""
        put, self._put = self._put, {}
        if self._hot is not None and put:
            vectors = self.catalog.vectors.of(np.array(list(put), np.uint64))
            for (key, published), vector in zip(put.items(), vectors, strict=True):
                self._hot.put(key, vector, published, max(now, published))

    def _apply(self, record: Any, now: int) -> None:
        if record.value is None:
            if record.key:
                key = self.catalog.drop(record.key.decode("utf-8", "replace"))
                self._put.pop(key, None)
                if self._hot is not None:
                    self._hot.drop(key)
            return
        item = self._decoder.one(record)
        self._put[self.catalog.put(item)] = item.published_ts

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


def attach(app: faust.App, wiring: Wiring, follower: CatalogFollower, hot: HotIndex) -> Tail:
    """Add the agent to the app; return the tail that it reads from, a service to run.

    Bad items are skipped: every serving worker reads them. track_users, whose group reads each once, writes
    them to `dead-letters`.
    """
    channel = broadcast_channel(app)
    tail = Tail(wiring.settings, wiring.topics.items, channel, name=FLOW.name)

    @app.agent(channel, name=FLOW.name)
    async def follow_catalog(stream: Any) -> None:
        async for batch in stream:
            await follower.follow(batch, wiring)
            # A record timestamp in the future must not expire other items.
            hot.expire(min(wiring.clock.now_ms(), max(r.timestamp for r in batch)))

    return tail
