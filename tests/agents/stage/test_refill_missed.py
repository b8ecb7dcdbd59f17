"""A refill and live writes that fail while it waits: what it may leave out as written already."""

from __future__ import annotations

import pytest
from stage_rows import Stage, rows_of


@pytest.mark.parametrize("last", ["changed", "removed"])
async def test_a_row_whose_last_live_write_failed_is_not_taken_for_fresh(stage: Stage, last: str) -> None:
    """A refill may wait for that of another partition, while the store goes away and comes back."""
    stage.store.restart()
    await stage.feed.look()
    refill = await stage.feed._begin(3)
    assert refill is not None
    stage.change(rows_of([1], 8))
    await stage.flush()
    stage.store.away = True
    if last == "changed":
        stage.change(rows_of([1], 9))
    else:
        stage.expire([1])
    await stage.flush()
    stage.durable()
    stage.evict([1])
    stage.store.away = False
    await stage.feed.look()
    await stage.feed._finish(refill)
    while not stage.feed.caught_up:
        await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert (stage.shown().get(1) == rows_of([1], 9)[1]) == (last == "changed")
