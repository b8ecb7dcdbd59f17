"""State of items: counts of the events of each item, everywhere and by country."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.counts import Counts
from headrace.models.state.item_updates import ItemUpdates
from headrace.models.state.row_access import distinct
from headrace.streams.messages.columns import KINDS
from headrace.streams.tables.rows import RowTable

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]

#: ``like`` is likes and saves; ``dwell_s`` seconds.
METRICS = ("shown", "click", "skip", "dwell_s", "like")
COUNTS = Counts(
    METRICS,
    high={"5m": np.dtype("u1"), "1h": np.dtype("u1"), "24h": np.dtype("u1"), "7d": np.dtype("<u2")},
    wide=True,
)
WINDOWS = COUNTS.windows

#: A row has the counts of an item from all users, or from the users of one country.
ROW = np.dtype(
    [
        ("key", "<u8"),  # of the item, or ``country_key``
        ("item", "<u8"),
        ("country", "<u8"),  # 0: everywhere
        ("offset", "<i8"),  # of the last item-events record applied
        ("updated", "<i8"),
        ("first_ts", "<i8"),
        ("last_click", "<i8"),
        *COUNTS.summary(),
        ("layout", "<u4"),
        *COUNTS.cells(),
        ("pad", "u1", (3,)),
    ]
)
BLANK = np.zeros((), ROW)
BLANK["offset"] = -1

#: What each kind of event counts as.
_COUNTS_AS = {
    "shown": "shown",
    "click": "click",
    "skip": "skip",
    "dwell": "dwell_s",
    "like": "like",
    "save": "like",
}
_METRIC = [METRICS.index(_COUNTS_AS[kind]) if kind in _COUNTS_AS else -1 for kind in KINDS]
_COUNTED = np.array(_METRIC) >= 0
_COUNTER = COUNTS.counter(ROW)
_EVERYWHERE = ItemUpdates(_COUNTER, ROW, metric=_METRIC, by_country=False)
_BY_COUNTRY = ItemUpdates(_COUNTER, ROW, metric=_METRIC, by_country=True)


def country_key(item: U64, country: U64) -> U64:
    """Return the key of (item, country), uint64 ``(n,)``; mixed as in splitmix64."""
    with np.errstate(over="ignore"):
        z: U64 = item + country * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def new_table() -> RowTable:
    """Return a table for rows of items, or of (item, country)."""
    return RowTable(ROW, BLANK[()])


class ItemState:
    """Item rows and (item, country) rows: those of one partition in the agent, all of them in serving.

    Parameters
    ----------
    items, countries
        The tables of the rows, both of dtype ``ROW``; new tables when None.
    """

    def __init__(self, items: RowTable | None = None, countries: RowTable | None = None) -> None:
        self.table = new_table() if items is None else items
        self.countries = new_table() if countries is None else countries

    def apply(self, events: npt.NDArray[np.void], offsets: I64) -> tuple[I64, I64]:
        """Count ``ITEM_EVENT`` records (pairs excluded); return the item rows and country rows changed.

        A record that a row has already counted (by its offset) is skipped. Country rows have their own
        offsets: after a crash they may be behind the item rows, or ahead of them.
        """
        counted = _COUNTED[events["kind"]]
        if not counted.all():
            events, offsets = events[counted], offsets[counted]
        items = _count(_EVERYWHERE, self.table, events["item"], events, offsets)
        placed = events["country"] != 0
        if not placed.all():
            events, offsets = events[placed], offsets[placed]
        keys = country_key(events["item"], events["country"])
        return items, _count(_BY_COUNTRY, self.countries, keys, events, offsets)

    def country_clicks(self, items: U64, country: int, now: int) -> F32:
        """Return the clicks of the last hour from ``country`` (its hash), float32 ``(n,)``; ``now`` in ms."""
        out = np.zeros(len(items), np.float32)
        if not country:
            return out
        rows = self.countries.find(country_key(items, np.full(len(items), country, np.uint64)))
        there = rows >= 0
        if there.any():
            out[there] = WINDOWS.read_one(self.countries.data, now, "1h", "click", rows=rows[there])
        return out


def _count(
    updates: ItemUpdates, table: RowTable, keys: U64, events: npt.NDArray[np.void], offsets: I64
) -> I64:
    """Count events in the rows of ``keys``; return the rows changed."""
    rows = table.take(keys)
    fresh = updates.apply(table.data, rows, events, offsets)
    return distinct(rows if fresh.all() else rows[fresh], len(table.data))
