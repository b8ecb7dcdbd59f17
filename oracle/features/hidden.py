"""What each user hid, computed from the events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from headrace.oracle.features.affinities import PUBLISHED_MS

#: A live row has so many hidden items and creators.
ITEMS: Final = 32
CREATORS: Final = 16


def hidden_of(events: pl.DataFrame, attributes: pl.DataFrame, *, complete: bool = True) -> pl.DataFrame:
    """Return what users hid: user; items, creators (lists of keys, the oldest first); sure.

    ``hide`` hides the item, and its creator if the event says so; ``like`` undoes it for the item, ``follow``
    for the creator. What is hidden again is the newest; beyond ``ITEMS`` and ``CREATORS`` the oldest is
    dropped. ``sure`` is False where it is not known which creator an item had for the worker.

    Parameters
    ----------
    events
        The events of one partition that rows count.
    attributes
        The result of ``item_attributes``; ``complete`` is true when no record of `items` is missing.
    """
    told = (
        events.filter(pl.col("kind").is_in(["hide", "like", "follow"]))
        .sort("offset")
        .join(attributes, on="item", how="left", maintain_order="left")
    )
    hide = pl.col("kind") == "hide"
    early = pl.col("timestamp") < pl.col("published") + PUBLISHED_MS
    asks = (hide & pl.col("of_creator")) | (pl.col("kind") == "follow")
    # An item that was never published has no creator, whenever the event was read.
    unsure = asks & ((~pl.col("stable") | early).fill_null(False) | (not complete))
    creator = pl.col("creator").fill_null(0)
    steps = told.select(
        "user",
        unsure=unsure,
        item=pl.when(hide | (pl.col("kind") == "like")).then("item").otherwise(0),
        creator=pl.when(asks).then(creator).otherwise(0),
        hide=hide,
    )
    rows = [
        (
            user,
            _last(mine.select("item", "hide").iter_rows(), ITEMS),
            _last(mine.select("creator", "hide").iter_rows(), CREATORS),
            not mine["unsure"].any(),
        )
        for (user,), mine in steps.group_by("user", maintain_order=True)
    ]
    keys = pl.List(pl.UInt64)
    schema: dict[str, Any] = {"user": pl.UInt64, "items": keys, "creators": keys, "sure": pl.Boolean}
    return pl.DataFrame(rows, schema, orient="row")


def _last(steps: Iterable[tuple[int, bool]], most: int) -> list[int]:
    """Return the keys that are hidden after all steps; a step is a key (0: none) and whether it hides."""
    kept: dict[int, None] = {}
    for key, hides in steps:
        kept.pop(key, None)
        if key and hides:
            kept[key] = None
        if len(kept) > most:
            kept.pop(next(iter(kept)))
    return list(kept)
