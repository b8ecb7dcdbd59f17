"""What the towers learn from: clicks of `events` as columns, content of `items`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.agents.stage.item_records import item_decoder
from headrace.models.embeddings.item_content import Described, ItemContent
from headrace.models.embeddings.stream import Clicks
from headrace.streams.errors import RejectedError
from headrace.streams.messages.columns import KIND, EventColumns, Limits
from headrace.streams.messages.event_reader import EventReader
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import Settings
from headrace.streams.topics.placement import misplaced

I64 = npt.NDArray[np.int64]


class ItemReader:
    """Keeps the content of the items.

    Attributes
    ----------
    content
        What the towers read.
    partitions
        Number of partitions of `items`; records in another one than their key's are skipped, as everywhere.
    """

    def __init__(self, max_bytes: int) -> None:
        self.content = ItemContent()
        self.partitions = 0
        self._decoder = item_decoder(max_bytes)

    def apply(self, records: Sequence[Any], partition: int) -> None:
        """Apply records of a partition, in order. A tombstone deletes its item; bad records are skipped."""
        new: dict[int, Item] = {}
        wrong = misplaced(records, partition, self.partitions) if len(records) else np.zeros(0, bool)
        for record, skip in zip(records, wrong.tolist(), strict=True):
            if skip:
                continue
            if record.value is None:
                key = hash64(record.key.decode("utf-8", "replace"))
                new.pop(key, None)
                self.content.drop([key])
                continue
            try:
                item = self._decoder.one(record)
            except RejectedError:
                continue  # track_users writes it to `dead-letters`
            new[hash64(item.item_id)] = item
        if new:
            keys = np.fromiter(new, np.uint64, len(new))
            self.content.put_many(Described.of(keys, list(new.values())))


class TowerClicks:
    """Reads the clicks among events: those that count for users and items, too."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        limits = Limits(partitions, settings.lateness_ms, settings.future_ms)
        self._reader = EventReader(settings.max_event_bytes, limits)

    def read(
        self, records: Sequence[Any], partition: int, now_ms: int
    ) -> tuple[Callable[[I64], Clicks], EventColumns]:
        """Return the clicks of records, and a function that gives those at some places for learning.

        It decodes these clicks once more, for the device; what users prefer and follow is not in it.
        """
        read, events = self._reader.read(records, partition, now_ms)
        click = events.right & events.placed & (events.columns.kind == KIND["click"])
        at = np.flatnonzero(click)
        columns = events.columns.where(at)

        def learnt(places: I64) -> Clicks:
            chosen = columns.where(places)
            told = [read.event(read.records[i]).context.device for i in at[places].tolist()]
            none = np.zeros((len(places), 0), np.uint64)
            return Clicks(chosen.user, chosen.item, chosen.ts, chosen.country, hash_many(told), none, none)

        return learnt, columns
