"""State of items: counts of the events of each item: of all users, of a country, of an age group there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.counts import Counts
from headrace.models.state.idle_items import IDLE, IdleItems
from headrace.models.state.item_events import choose_item_events, country_keys
from headrace.models.state.item_rows import ItemRows
from headrace.models.state.item_updates import ItemUpdates
from headrace.streams.messages.columns import KINDS
from headrace.streams.tables.layouts import Earlier, declare, fingerprint
from headrace.streams.tables.rows import RowTable

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: ``like`` is likes and saves; ``dwell_s`` seconds.
METRICS = ("shown", "click", "skip", "dwell_s", "like")
COUNTS = Counts(
    METRICS,
    high={"5m": np.dtype("u1"), "1h": np.dtype("u1"), "24h": np.dtype("u1"), "7d": np.dtype("<u2")},
    wide=True,
)
WINDOWS = COUNTS.windows

#: A row has the counts of an item from all users, from the users of one country, or from those of one age
#: group in a country. The last two are called country rows.
ROW = np.dtype(
    [
        ("key", "<u8"),  # of the item, or ``country_key``
        ("item", "<u8"),
        ("country", "<u8"),  # 0: everywhere; else the country, or ``place_key``
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
# Version 0.1.0 has written rows of the same fields, under other ids.
declare("item-features", 1, ROW, [Earlier(0, ROW, None, fingerprint(ROW))])

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
_COUNTED = [metric >= 0 for metric in _METRIC]
_COUNTER = COUNTS.counter(ROW)
#: By age group only what is read there is counted.
_BY_AGE_METRIC = [
    metric if kind in ("shown", "click") else -1 for kind, metric in zip(KINDS, _METRIC, strict=True)
]
_COUNTED_BY_AGE = [metric >= 0 for metric in _BY_AGE_METRIC]
#: What rows are of; as in ``packed_item_events.pxd``.
_ALL, _COUNTRY, _AGE = range(3)
_EVERYWHERE = ItemUpdates(_COUNTER, ROW, metric=_METRIC, by=_ALL)
_BY_COUNTRY = ItemUpdates(_COUNTER, ROW, metric=_METRIC, by=_COUNTRY)
_BY_AGE = ItemUpdates(_COUNTER, ROW, metric=_BY_AGE_METRIC, by=_AGE)
_CLICK = METRICS.index("click")
_ROWS = ItemRows(BLANK, IDLE, _CLICK)


_GROUP = 0xD6E8FEB86659FD93  # odd: groups of a country are far apart


def country_key(item: U64, country: U64) -> U64:
    """Return the key of (item, country), uint64 ``(n,)``, mixed as in splitmix64.

    ``country`` may be one for all, ``(1,)``.
    """
    return country_keys(item, country)


def place_key(country: int, group: int) -> int:
    """Return the key of an age group in a country; of the country for group 0, and 0 without a country."""
    return (country + group * _GROUP) % 2**64 if country else 0


def places_of(events: npt.NDArray[np.void]) -> U64:
    """Return the keys of the country rows that ``ITEM_EVENT`` records may change, uint64."""
    item, country, group = (events[name] for name in ("item", "country", "age_group"))
    aged = np.flatnonzero(group)
    with np.errstate(over="ignore"):
        places = country[aged] + group[aged] * np.uint64(_GROUP)
    return np.append(country_key(item, country), country_key(item[aged], places))


def new_table() -> RowTable:
    """Return a table for rows of items, or of (item, country)."""
    return RowTable(ROW, BLANK[()])


class ItemState:
    """Item rows and (item, country) rows: those of one partition in the agent, all of them in serving.

    Parameters
    ----------
    items, countries
        The tables of the rows, both of dtype ``ROW``; new tables when None.

    Attributes
    ----------
    idle
        Items of which serving keeps no whole row.
    """

    def __init__(self, items: RowTable | None = None, countries: RowTable | None = None) -> None:
        self.table = new_table() if items is None else items
        self.countries = new_table() if countries is None else countries
        self.idle = IdleItems(_CLICK)

    def apply(
        self, events: npt.NDArray[np.void], offsets: I64, wanted: Bool | None = None
    ) -> tuple[I64, I64]:
        """Count ``ITEM_EVENT`` records (pairs are left out); return the item rows and country rows changed.

        A record that a row has already counted (by its offset) is skipped. Country rows have their own
        offsets: after a crash they may be behind the item rows, or ahead of them.

        Parameters
        ----------
        offsets
            Offset of the record of each event, int64 ``(n,)``; they do not fall.
        wanted
            Which events to count, bool ``(n,)``; None: all.
        """
        at, keys = choose_item_events(events, wanted, _COUNTED, _ALL)
        rows = self.table.take(keys)
        items = _EVERYWHERE.apply(self.table.data, rows, events, at, offsets)
        at, keys = choose_item_events(events, wanted, _COUNTED, _COUNTRY)
        rows = self.countries.take(keys)
        places = _BY_COUNTRY.apply(self.countries.data, rows, events, at, offsets)
        at, keys = choose_item_events(events, wanted, _COUNTED_BY_AGE, _AGE)
        if len(at):
            rows = self.countries.take(keys)
            places = np.append(places, _BY_AGE.apply(self.countries.data, rows, events, at, offsets))
        return items, places

    def rows_of(self, keys: U64) -> npt.NDArray[np.void]:
        """Return copies of the rows of items, ``ROW`` ``(n,)``: blank where an item has none.

        The row of an idle item has what is kept of it; the rest is blank.
        """
        idle = self.idle.table
        at = idle.find(keys) if len(idle) else None
        return _ROWS.copied(self.table.data, self.table.find(keys), idle.data, at)

    def place_counts(self, items: U64, place: int, now: int) -> tuple[F64, F64]:
        """Return clicks and shown slots of 7 days in a place (``place_key``), float64 ``(n,)`` each."""
        clicks, shown = np.zeros(len(items)), np.zeros(len(items))
        rows = self.countries.find(country_key(items, np.array([place], np.uint64)))
        there = rows >= 0
        if there.any():
            for out, metric in ((clicks, "click"), (shown, "shown")):
                out[there] = WINDOWS.read_one(self.countries.data, now, "7d", metric, rows=rows[there])
        return clicks, shown

    def country_clicks(self, items: U64, country: int, now: int) -> F32:
        """Return the clicks of the last hour from ``country`` (its hash), float32 ``(n,)``; ``now`` in ms."""
        if not country:
            return np.zeros(len(items), np.float32)
        rows = self.countries.find(country_key(items, np.array([country], np.uint64)))
        return WINDOWS.read_one(self.countries.data, now, "1h", "click", rows=rows)
