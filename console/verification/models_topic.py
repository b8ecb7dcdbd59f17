"""What was published on `models`: versions of the online model, leaf deltas, and the newest towers."""

from __future__ import annotations

from typing import Any

import polars as pl

from headrace.models.features.spec import ONLINE_NAMES
from headrace.models.learning.online import NAME
from headrace.oracle.records.models import Learnt, read_deltas, read_learnt, read_versions
from headrace.oracle.records.towers import PublishedTowers, newest_towers
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to


async def published_models(
    settings: Settings,
) -> tuple[pl.DataFrame, Learnt | None, pl.DataFrame, PublishedTowers | None, bool]:
    """Read `models` to its present end.

    Returns
    -------
    ``VERSIONS``, what the newest of them has learnt, ``DELTAS``, the newest towers, and whether the topic
    has every record.
    """
    records: list[Any] = []
    absent = 0
    async with open_reader(settings, [Topics(settings).models]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            absent += part.absent
            records += part.records
    whole = not (absent or any(begins.values()))
    versions = read_versions(records, NAME, ONLINE_NAMES)
    learnt = read_learnt(records, NAME, ONLINE_NAMES)
    return versions, learnt, read_deltas(records), newest_towers(records), whole
