"""The catalogue as `items` has it up to some offsets: which items there are, and when each was published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from headrace.oracle.records.places import AGAIN

#: The items of a catalogue. ``published`` is null where the item is withdrawn; ``sure`` is false where the
#: record that says so may have been removed by compaction.
CATALOGUE: Final = pl.Schema(
    {"item": pl.UInt64, "item_id": pl.String, "published": pl.Int64, "sure": pl.Boolean}
)


def catalogue_at(items: pl.DataFrame, ends: Mapping[int, int], *, whole: bool) -> pl.DataFrame:
    """Return ``CATALOGUE`` as the last record of each item before some offsets says.

    Parameters
    ----------
    items
        ``ITEMS``; with a column ``number``, that is their order, else ``offset`` is.
    ends
        Partition -> offset after the last record that counts; of others, none does.
    whole
        Whether the topic still has every record ever written. If not, a later record of an item may be the
        reason that an earlier one is gone.
    """
    offsets = pl.DataFrame(
        {"partition": list(ends), "end": list(ends.values())}, {"partition": pl.Int32, "end": pl.Int64}
    )
    valid = items.filter(pl.col("verdict").is_in(["", AGAIN])).join(offsets, on="partition", how="left")
    before = pl.col("offset") < pl.col("end").fill_null(0)
    order = "number" if "number" in valid.columns else "offset"
    last = valid.sort(order).group_by("item").agg(
        pl.col("item_id", "published").filter(before).last(),
        before.any().alias("told"),
        before.all().alias("settled"),
    )  # fmt: skip
    out = last.filter(pl.col("told") | (not whole)).with_columns(sure=pl.col("settled") | whole)
    return out.select(CATALOGUE.names()).cast(CATALOGUE)
