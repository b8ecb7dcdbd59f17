"""follow_catalog: reads `items`, all of it in every serving worker; keeps the catalogue and the hot index.

Every worker needs the whole catalogue, so this agent has no consumer group: a tail reads the topic from its
beginning and hands the batches over.
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
    """Raise ``RejectedError`` for an item under another key: nothing could withdraw it."""
    check_key(record, "item_id", item.item_id)


class CatalogFollower:
    """Applies `items` records to a catalogue and, where there is one, a hot index. Pure."""

    def __init__(
        self, catalog: Catalog | None = None, hot: HotIndex | None = None, max_bytes: int = 65_536
    ) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self._hot = hot
        self._decoder = Decoder(Item, max_bytes, check_item)

    def apply(self, batch: RecordBatch) -> None:
        """Apply a batch in order; what cannot be decoded is passed over. A null withdraws its key's item."""
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
    """Add the agent to the app; return the tail that feeds it, a service to run.

    Every worker meets a bad item; it is track_users, whose group meets it once, that buries it.
    """
    channel = broadcast_channel(app)
    tail = Tail(wiring.settings, wiring.topics.items, channel, name=FLOW.name)

    @app.agent(channel, name=FLOW.name)
    async def follow_catalog(stream: Any) -> None:
        async for batch in stream:
            follower.apply(batch)
            # A producer whose clock is ahead must not expire everybody else's items.
            hot.expire(min(wiring.clock.now_ms(), max(r.timestamp for r in batch)))

    return tail
