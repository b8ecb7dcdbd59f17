"""Features of items, everywhere and in each country, computed from the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.features.counts import Counted, by_row, metric_number, numbered
from headrace.oracle.features.windows import ITEM_CELLS
from headrace.oracle.times import MINUTE_MS

I64 = npt.NDArray[np.int64]

ITEM_METRICS: Final = ("shown", "click", "skip", "dwell_s", "like")
#: Kind of event -> the item metric it counts in. Other kinds are not counted.
_METRIC_OF: Final = {"click": "click", "skip": "skip", "dwell": "dwell_s", "like": "like", "save": "like"}

_ACT = ["item", "country", "age_group", "name", "place", "ts", "metric", "amount"]
#: Times the age group, added to the key of a country, it makes the key of the group there.
_GROUP: Final = 0xD6E8FEB86659FD93
_NAMES: dict[str, Any] = {"name": pl.col("item_id"), "place": pl.col("country_id")}


@dataclass(frozen=True)
class Items(Counted):
    """Items, or items in countries, with their acts; one row for each.

    Attributes
    ----------
    keys
        row, item, country (0: everywhere; or the key of an age group there), name.
    acts
        row, metric (of ``ITEM_METRICS``), ts (ms), amount.
    """

    metrics: ClassVar[tuple[str, ...]] = ITEM_METRICS
    cells: ClassVar[Mapping[str, int]] = ITEM_CELLS
    largest_total: ClassVar[int] = 2**40 - 1
    step_ms: ClassVar[int] = MINUTE_MS

    def of_partition(self, number: int, of: int) -> Items:
        """Return the items whose live rows are in partition ``number`` of ``of``."""
        keys = self.keys.filter(pl.col("item") % of == number)
        acts = self.acts.join(keys.select("row").with_row_index("new"), on="row")
        return Items(
            keys.drop("row").with_row_index("row"),
            acts.select(pl.col("new").alias("row"), *acts.columns[1:-1]),
        )

    def first_ts(self) -> I64:
        """Return the time (ms) of the first act of each row, int64 ``(rows,)``."""
        return by_row(self.acts, self.shape[0], pl.col("ts").min())

    def last_click(self) -> I64:
        """Return the time (ms) of the last click, int64 ``(rows,)``; 0 without any."""
        clicks = self.acts.filter(pl.col("metric") == ITEM_METRICS.index("click"))
        return by_row(clicks, self.shape[0], pl.col("ts").max())


def items_of(events: pl.DataFrame, shown: pl.DataFrame) -> tuple[Items, Items]:
    """Return the items of accepted ``EVENTS`` and valid ``SHOWN``: everywhere; by country and age group."""
    every = pl.concat([_done(events), _slots(shown)])
    everywhere = every.with_columns(country=pl.lit(0, pl.UInt64))
    by_country = every.filter(pl.col("country") != 0).with_columns(
        name=pl.concat_str("name", pl.lit(" in "), "place")
    )
    return _items(everywhere), _items(pl.concat([by_country, _by_age(by_country)]))


def _by_age(by_country: pl.DataFrame) -> pl.DataFrame:
    """Return the clicks and shown slots of users of a known age, at the place of their group."""
    read = pl.col("metric").is_in([ITEM_METRICS.index("shown"), ITEM_METRICS.index("click")])
    acts = by_country.filter(read & (pl.col("age_group") != 0))
    places = [(c + g * _GROUP) % 2**64 for c, g in acts.select("country", "age_group").iter_rows()]
    return acts.with_columns(
        country=pl.Series(places, dtype=pl.UInt64),
        name=pl.concat_str("name", pl.lit(", age group "), pl.col("age_group").cast(pl.String)),
    )


def _done(events: pl.DataFrame) -> pl.DataFrame:
    """Return one act for each event."""
    name = pl.col("kind").replace_strict(_METRIC_OF, return_dtype=pl.String)
    amount = pl.when(pl.col("kind") == "dwell").then(pl.col("dwell_s")).otherwise(1)
    counted = events.filter(pl.col("kind").is_in(list(_METRIC_OF)))
    return counted.with_columns(metric=metric_number(name, ITEM_METRICS), amount=amount, **_NAMES).select(
        _ACT
    )


def _slots(shown: pl.DataFrame) -> pl.DataFrame:
    """Return one act for each shown slot."""
    return (
        shown.filter(pl.col("verdict") == "")
        .explode("items", "item_ids")
        .rename({"items": "item", "item_ids": "item_id"})
        .filter(pl.col("item").fill_null(0) != 0)
        .with_columns(
            metric=pl.lit(ITEM_METRICS.index("shown"), pl.UInt8), amount=pl.lit(1, pl.Int64), **_NAMES
        )
        .select(_ACT)
    )


def _items(part: pl.DataFrame) -> Items:
    keys, acts = numbered([part], ["item", "country"], "name")
    return Items(keys, acts.select("row", "metric", "ts", "amount"))
