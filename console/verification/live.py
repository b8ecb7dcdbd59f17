"""Live values for the comparison with the oracle, read from live rows by the code that serving uses."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.counts import Counts

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

#: Kind of affinity -> prefix of the fields of a row.
_AFFINITY = {"category": "cat", "creator": "creator"}


class LiveCounts:
    """The counts of ``rows``; arrays are in the order of the rows."""

    def __init__(self, rows: Rows, counts: Counts) -> None:
        self._rows = rows
        self._counts = counts

    def windows(self, at: int) -> F32:
        """Return every window at ``at`` (ms), float32 ``(n, windows, metrics)``."""
        return self._counts.windows.read(self._rows, at)

    def totals(self) -> I64:
        """Return the all-time counts, int64 ``(n, metrics)``."""
        metrics = self._counts.metrics
        return np.stack([self._counts.totals(self._rows, m) for m in metrics], axis=-1).astype(np.int64)

    def decayed(self, at: int) -> F64:
        """Return the counts with a half-life of 30 days at ``at`` (ms), float64 ``(n, metrics)``."""
        return self._counts.decayed(self._rows, at)


class LiveUsers(LiveCounts):
    """Values of rows of users.

    Parameters
    ----------
    rows
        Of dtype ``user_state.ROW``, ``(n,)``.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows, user_state.COUNTS)

    @property
    def keys(self) -> pl.DataFrame:
        """A row for every row: key, user."""
        return pl.DataFrame({"key": self._rows["key"], "user": self._rows["key"]})

    @property
    def marks(self) -> pl.DataFrame:
        """A row for every row: user, and what it says of the records applied and of its profile."""
        names = (
            "offset",
            "shown_offset",
            "profile_offset",
            "since",
            "shown_since",
            "has_profile",
            "profile_ts",
            "language",
        )
        told = {name: self._rows[name] for name in (*names, "home", "country")}
        told["views_since"] = self.views_since()
        place = self._rows["place"].astype(np.int64)
        told["age"] = self._rows["age"].astype(np.int64)
        told["place"] = np.where(place == 0, -1, place & (user_state.PLACED - 1))
        return pl.DataFrame({"user": self._rows["key"], **told})

    def labels(self, what: str) -> U64:
        """Return the keys of a profile's "preferred" categories or "followed" creators, uint64 ``(n, k)``."""
        keys: U64 = self._rows[what]
        return keys

    def hidden(self, what: str) -> U64:
        """Return the keys of hidden "items" or "creators", the oldest first, uint64 ``(n, k)``."""
        keys: U64 = self._rows[{"items": "hidden", "creators": "hidden_creators"}[what]]
        return keys

    @property
    def clicks(self) -> pl.DataFrame:
        """The last clicks of all rows: row (position), ts (ms), item."""
        items, times = self._recent()
        row = np.repeat(np.arange(len(items)), items.shape[1])
        clicks = pl.DataFrame({"row": row, "ts": times.ravel(), "item": items.ravel()})
        return clicks.filter(pl.col("ts") >= 0)

    def n_clicks(self) -> I64:
        """Return the all-time clicks, int64 ``(n,)``."""
        n: I64 = self._rows["n_clicks"]
        return n

    def recent_ts(self) -> I64:
        """Return the times (ms) of the last clicks, newest first, int64 ``(n, RECENT)``; -1 where none."""
        return self._recent()[1]

    def _recent(self) -> tuple[U64, I64]:
        """Return items and times (ms, -1: none) of the last clicks, newest first, ``(n, RECENT)`` each."""
        size = user_state.RECENT
        back = np.arange(size)[None, :]
        n = self._rows["n_clicks"][:, None]
        place = (n - 1 - back) % size
        i = np.arange(len(self._rows))[:, None]
        return self._rows["recent"][i, place], np.where(back < n, self._rows["recent_ts"][i, place], -1)

    def affinities(self, what: str, at: int) -> pl.DataFrame:
        """Return the decayed weights of "category" or "creator" at ``at`` (ms): row, key, found."""
        name = _AFFINITY[what]
        keys = self._rows[name]
        left = np.exp2(-(at - self._rows[f"{name}_ts"]) / user_state.AFFINITY_HALF_LIFE_MS)
        return pl.DataFrame(
            {
                "row": np.repeat(np.arange(len(keys)), keys.shape[1]),
                "key": keys.ravel(),
                "found": (self._rows[f"{name}_w"] * left[:, None]).ravel(),
            }
        ).filter(pl.col("key") != 0)

    def views(self, at: int) -> pl.DataFrame:
        """Return the decayed views of categories at ``at`` (ms): row, key, dwell (log seconds), views."""
        keys = self._rows["cat"]
        left = np.exp2(-(at - self._rows["cat_ts"]) / user_state.AFFINITY_HALF_LIFE_MS)[:, None]
        sums = {name: (self._rows[f"cat_{name}"] * left).ravel() for name in ("dwell", "views")}
        row = np.repeat(np.arange(len(keys)), keys.shape[1])
        return pl.DataFrame({"row": row, "key": keys.ravel(), **sums}).filter(pl.col("key") != 0)

    def views_since(self) -> I64:
        """Return the offsets after which views count, int64 ``(n,)``; -1: all."""
        since: I64 = self._rows["views_from"] - 1
        return since


class LiveItems(LiveCounts):
    """Values of rows of items, or of items in countries.

    Parameters
    ----------
    rows
        Of dtype ``item_state.ROW``, ``(n,)``.
    by_country
        Whether they are rows of items in countries.
    """

    def __init__(self, rows: Rows, *, by_country: bool) -> None:
        super().__init__(rows, item_state.COUNTS)
        self._by_country = by_country

    @property
    def keys(self) -> pl.DataFrame:
        """A row for every row: key, item, country (0: everywhere)."""
        item = self._rows["item" if self._by_country else "key"]
        return pl.DataFrame({"key": self._rows["key"], "item": item, "country": self._rows["country"]})

    @property
    def places(self) -> U64 | None:
        """The keys under which readers look up the rows, uint64 ``(n,)``; None when the key is the item."""
        if not self._by_country:
            return None
        return item_state.country_key(self._rows["item"], self._rows["country"])

    def where(self, kept: Bool) -> Self:
        """Return only the rows where ``kept``, bool ``(n,)``, is true."""
        return type(self)(self._rows[kept], by_country=self._by_country)

    def first_ts(self) -> I64:
        """Return the time (ms) of the first event, int64 ``(n,)``."""
        first: I64 = self._rows["first_ts"]
        return first

    def last_click(self) -> I64:
        """Return the time (ms) of the last click, int64 ``(n,)``; 0 without any."""
        last: I64 = self._rows["last_click"]
        return last
