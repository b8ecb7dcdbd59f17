"""While a swap takes the keys of what changed, the event loop answers."""

from __future__ import annotations

import asyncio

import numpy as np
from strategies import T0

from headrace.agents.stage.mapped_catalog import changed_keys
from headrace.serving.catalog import Catalog
from headrace.serving.catalog_changes import KEYS_AT_ONCE, Origin
from headrace.streams.messages.ids import hash_many


async def test_others_run_between_two_parts() -> None:
    n = 2 * KEYS_AT_ONCE + 1
    ids = [f"i{k}" for k in range(n)]
    catalog, taken = Catalog(), list[int]()
    catalog.drop_many(ids, Origin(0, np.arange(n), T0))

    async def answer() -> None:
        while True:
            taken.append(len(catalog.drop_many([f"late{len(taken)}"], Origin(0, np.array([n]), T0))))
            await asyncio.sleep(0)

    beside = asyncio.create_task(answer())
    parts = await changed_keys(catalog)
    beside.cancel()
    assert [len(part) for part in parts] == [KEYS_AT_ONCE, KEYS_AT_ONCE, 1]
    assert len(taken) == len(parts), "it had a turn after each"
    assert np.concatenate(parts).tolist() == hash_many(ids).tolist()
