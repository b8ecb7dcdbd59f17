"""follow_catalog: reads `items`, all of it in every serving worker; keeps the catalogue and the hot index.

Every worker needs the whole catalogue, so this agent has no consumer group: a tail reads the topic from its
beginning and delivers the batches.
"""

from __future__ import annotations

from typing import Any

import faust

from headrace.agents.wiring import Wiring
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import Item
from headrace.streams.topics import flow
from headrace.streams.topics.tail import Tail, broadcast_channel
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("follow_catalog")


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
    """

    def __init__(
        self, catalog: Catalog | None = None, hot: HotIndex | None = None, max_bytes: int = 65_536
    ) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self._hot = hot
        self._decoder = Decoder(Item, max_bytes, check_item)

    def apply(self, batch: RecordBatch) -> None:
        """Apply a batch, in order. A tombstone deletes its item; bad records are skipped."""
        for record in batch:
            if record.value is None:
                if record.key:
                    key = self.catalog.drop(record.key.decode("utf-8", "replace"))
                    if self._hot is not None:
                        self._hot.drop(key)
                continue
            try:
                item = self._decoder.one(record)
            except RejectedError:
                continue
            key = self.catalog.put(item)
            if self._hot is not None:
                vector = self.catalog.vector(key)
                if vector is None:
                    self._hot.drop(key)
                else:
                    self._hot.put(key, vector, item.published_ts, max(record.timestamp, item.published_ts))


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
            follower.apply(batch)
            # A record timestamp in the future must not expire other items.
            hot.expire(min(wiring.clock.now_ms(), max(r.timestamp for r in batch)))

    return tail
