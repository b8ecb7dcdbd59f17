"""What happened to an item: windows of what users did with it, everywhere and per country."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streams.columns import KIND
from streams.table import Table
from streams.windows import TIERS, Windows

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]

METRICS = ("shown", "click", "skip", "dwell_s", "like")
WINDOWS = Windows(METRICS)
COUNTRY_WINDOWS = Windows(("click",), tiers=TIERS[1:2])

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),  # of the last item-events record applied
        ("updated", "<i8"),
        ("first_ts", "<i8"),
        ("last_click", "<i8"),
        ("totals", "<f8", (len(METRICS),)),  # a float32 stops counting at 16.8 million
        *WINDOWS.fields(),
        ("pad", "<u4"),
    ]
)
BLANK = np.zeros((), ROW)
BLANK["offset"] = -1

#: One row an (item, country); its key mixes both.
COUNTRY_ROW = np.dtype(
    [("key", "<u8"), ("item", "<u8"), ("country", "<u8"), ("offset", "<i8"), *COUNTRY_WINDOWS.fields()]
)
COUNTRY_BLANK = np.zeros((), COUNTRY_ROW)
COUNTRY_BLANK["offset"] = -1

_METRIC = np.full(9, -1, np.int64)
for _kind, _metric in {
    "shown": "shown",
    "click": "click",
    "skip": "skip",
    "dwell": "dwell_s",
    "like": "like",
    "save": "like",
}.items():
    _METRIC[KIND[_kind]] = METRICS.index(_metric)


def country_key(item: U64, country: U64) -> U64:
    """Return the key of (item, country), uint64; the mixer is splitmix64's."""
    with np.errstate(over="ignore"):
        z: U64 = item + country * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class ItemStats:
    """Item rows and (item, country) rows: of one partition where they are counted, of all where read."""

    def __init__(self) -> None:
        self.table = Table(ROW, BLANK[()])
        self.countries = Table(COUNTRY_ROW, COUNTRY_BLANK[()])

    def apply(self, events: npt.NDArray[np.void], offsets: I64) -> tuple[I64, I64]:
        """Count ``ITEM_EVENT`` records (pairs excluded); return the item rows and country rows touched.

        A record a row already reflects (by offset) is passed over.
        """
        metric = _METRIC[events["kind"]]
        counted = metric >= 0
        if not counted.all():
            events, offsets, metric = events[counted], offsets[counted], metric[counted]
        if not len(events):
            empty = np.zeros(0, np.int64)
            return empty, empty
        rows = self.table.take(events["item"])
        data = self.table.data
        # Country rows know for themselves what they reflect: a crash may have left them behind.
        clicks = events["kind"] == KIND["click"]
        countries = self._by_country(events[clicks], offsets[clicks])
        fresh = offsets > data["offset"][rows]
        if not fresh.all():
            rows, events, offsets, metric = rows[fresh], events[fresh], offsets[fresh], metric[fresh]
        ts = events["ts"]
        np.maximum.at(data["offset"], rows, offsets)
        np.maximum.at(data["updated"], rows, ts)
        first = data["first_ts"]
        new = rows[first[rows] == 0]
        first[new] = np.iinfo(np.int64).max
        np.minimum.at(first, rows, ts)
        clicks = events["kind"] == KIND["click"]
        np.maximum.at(data["last_click"], rows[clicks], ts[clicks])
        np.add.at(data["totals"], (rows, metric), events["amount"])
        WINDOWS.add(data, rows, ts, metric, events["amount"])
        return np.unique(rows), countries

    def _by_country(self, clicks: npt.NDArray[np.void], offsets: I64) -> I64:
        known = clicks["country"] != 0
        clicks, offsets = clicks[known], offsets[known]
        if not len(clicks):
            return np.zeros(0, np.int64)
        rows = self.countries.take(country_key(clicks["item"], clicks["country"]))
        data = self.countries.data
        fresh = offsets > data["offset"][rows]
        rows, clicks, offsets = rows[fresh], clicks[fresh], offsets[fresh]
        np.maximum.at(data["offset"], rows, offsets)
        data["item"][rows] = clicks["item"]
        data["country"][rows] = clicks["country"]
        zero = np.zeros(len(rows), np.int64)
        COUNTRY_WINDOWS.add(data, rows, clicks["ts"], zero, np.ones(len(rows), np.float32))
        return np.unique(rows)

    def country_clicks(self, items: U64, country: int, now: int) -> F32:
        """Return the clicks of the last hour from ``country``, float32 ``(n,)``."""
        out = np.zeros(len(items), np.float32)
        if not country:
            return out
        rows = self.countries.find(country_key(items, np.full(len(items), country, np.uint64)))
        there = rows >= 0
        if there.any():
            out[there] = COUNTRY_WINDOWS.read_one(self.countries.data[rows[there]], now, "1h", "click")
        return out
