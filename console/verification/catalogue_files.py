"""The catalogue snapshot of this machine, for the comparison with `items`."""

from __future__ import annotations

import numpy as np
import polars as pl
from aiokafka import TopicPartition

from headrace.serving.snapshot.files import SnapshotError
from headrace.serving.snapshot.folder import SnapshotFolder, check_age, check_fits, folder_of
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader

#: Items read at once.
_BLOCK = 100_000


async def snapshot_here(settings: Settings) -> tuple[CatalogSnapshot | None, str]:
    """Return the newest snapshot, None when there is none that serving would use; and why, "" without any."""
    topic, snapshot = Topics(settings).items, None
    try:
        snapshot = SnapshotFolder(folder_of(settings)).open(thorough=True)
        if snapshot is None:
            return None, ""
        snapshot.towers()
        check_age(snapshot, now_ms())
        async with open_reader(settings, [topic]) as reader:
            places = {TopicPartition(topic, n): place for n, place in snapshot.places.items()}
            check_fits(snapshot.folder, await reader.misfit(places))
    except SnapshotError as exc:
        if snapshot is not None:
            snapshot.close()
        return None, f"the catalogue snapshot is not compared, and not used: {exc}"
    return snapshot, ""


def items_of(snapshot: CatalogSnapshot) -> pl.DataFrame:
    """Return the items of a snapshot: item, item_id, published."""
    frames = [pl.DataFrame(schema={"item": pl.UInt64, "item_id": pl.String, "published": pl.Int64})]
    for at in range(0, len(snapshot), _BLOCK):
        items = snapshot.items(np.arange(at, min(at + _BLOCK, len(snapshot))))
        text, bounds = items.ids.values.tobytes(), items.ids.bounds.tolist()
        ids = [text[bounds[i] : bounds[i + 1]].decode("utf-8", "replace") for i in range(len(items))]
        frames.append(pl.DataFrame({"item": items.key, "item_id": ids, "published": items.published}))
    return pl.concat(frames)
