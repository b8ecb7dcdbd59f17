"""What each user was shown last, computed from the impressions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

#: A live row has this many items, and counts up to ``MOST``.
PLACES: Final = 200
MOST: Final = 255

LISTS: Final = pl.Schema(
    {"user": pl.UInt64, "place": pl.Int64, "item": pl.UInt64, "second": pl.Int64, "times": pl.Int64}
)


def shown_lists(shown: pl.DataFrame) -> pl.DataFrame:
    """Return the items that rows have, as ``LISTS``; place 0 is the one shown longest ago.

    The order is that of the last showings, by offset and slot. ``second`` is the newest time of an item,
    ``times`` says how often it was shown since it came into the row.

    Parameters
    ----------
    shown
        The impressions of one partition that rows count: user, offset, ts (ms), items.
    """
    slots = (
        shown.sort("offset")
        .select("user", "items", second=pl.col("ts") // 1000)
        .explode("items")
        .drop_nulls("items")
        .rename({"items": "item"})
        .with_row_index("slot")
    )
    many = pl.col("item").n_unique().over("user") > PLACES
    return pl.concat([_short(slots.filter(~many)), _long(slots.filter(many))])


def _short(slots: pl.DataFrame) -> pl.DataFrame:
    """Return the lists of users for whose items there are places enough: no item was ever dropped."""
    return (
        slots.group_by("user", "item")
        .agg(pl.col("second").max(), pl.col("slot").max(), times=pl.len().clip(upper_bound=MOST))
        .sort("user", "slot")
        .with_columns(place=pl.int_range(pl.len()).over("user"))
        .select([pl.col(name).cast(kind) for name, kind in LISTS.items()])
    )


def _long(slots: pl.DataFrame) -> pl.DataFrame:
    """Return the lists of the other users, slot by slot."""
    rows = [
        (user, place, item, second, min(times, MOST))
        for (user,), mine in slots.group_by("user", maintain_order=True)
        for place, (item, second, times) in enumerate(_last(mine.select("item", "second").iter_rows()))
    ]
    return pl.DataFrame(rows, LISTS, orient="row")


def _last(slots: Iterator[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return the last ``PLACES`` items shown, the oldest first: item, newest second, times."""
    kept: dict[int, tuple[int, int]] = {}
    for item, second in slots:
        before, times = kept.pop(item, (0, 0))
        kept[item] = max(before, second), times + 1
        if len(kept) > PLACES:
            kept.pop(next(iter(kept)))
    return [(item, *told) for item, told in kept.items()]
