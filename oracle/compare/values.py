"""The values that a comparison needs of live rows. The oracle does not depend on how they are stored.

Arrays have one row for every live row, in the order of ``keys``. Shapes and units are those of ``Users`` and
``Items`` of the oracle.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class CountValues(Protocol):
    """The keys of live rows, and their counts."""

    @property
    def keys(self) -> pl.DataFrame:
        """A row for every live row: key (64 bits, of the changelog record); user, or item and country."""
        ...

    def windows(self, at: int) -> npt.NDArray[Any]:
        """Return every window at ``at`` (ms), numbers ``(n, windows, metrics)``."""
        ...

    def totals(self) -> I64:
        """Return the all-time counts, int64 ``(n, metrics)``."""
        ...

    def decayed(self, at: int) -> F64:
        """Return the counts with a half-life of 30 days at ``at`` (ms), float64 ``(n, metrics)``."""
        ...


class UserValues(CountValues, Protocol):
    """Live rows of users."""

    @property
    def clicks(self) -> pl.DataFrame:
        """The last clicks of the rows: row (position), ts (ms), item."""
        ...

    def n_clicks(self) -> I64:
        """Return the all-time clicks, int64 ``(n,)``."""
        ...

    def recent_ts(self) -> I64:
        """Return the times (ms) of the last clicks, newest first, int64 ``(n, RECENT)``; -1 where none."""
        ...

    def affinities(self, what: str, at: int) -> pl.DataFrame:
        """Return the decayed weights of "category" or "creator" at ``at``: row (position), key, found."""
        ...

    def views(self, at: int) -> pl.DataFrame:
        """Return the decayed views at ``at`` (ms): row (position), key (category), dwell, views."""
        ...

    def views_since(self) -> I64:
        """Return the offsets after which views count, int64 ``(n,)``; -1: all."""
        ...


class HiddenValues(Protocol):
    """What live rows of users say that the users hid."""

    def hidden(self, what: str) -> U64:
        """Return the keys of hidden "items" or "creators", the oldest first, uint64 ``(n, k)``."""
        ...


class ShownValues(Protocol):
    """Live rows of what users were shown."""

    @property
    def marks(self) -> pl.DataFrame:
        """A row for every live row.

        user; offset (of the last impression applied); since (where counting begins, -1: at the first one);
        forgotten (offset of the tombstone that cleared it last, -1: none); updated (ms).
        """
        ...

    @property
    def lists(self) -> pl.DataFrame:
        """The items of the rows: user, place (from 0, the oldest), item, second, times (how often)."""
        ...


class UserMarks(Protocol):
    """What live rows of users say of the records applied to them, and their profiles."""

    @property
    def marks(self) -> pl.DataFrame:
        """A row for every live row.

        user; offset, shown_offset, profile_offset (of the last record applied of `events`, `impressions` and
        `users`, -1: none); since, shown_since, views_since (where counting begins); has_profile, profile_ts
        (ms), home, language, country, age (-1: unknown); place (hash that decides the partition, -1: not
        known).
        """
        ...

    def labels(self, what: str) -> U64:
        """Return the keys of a profile's "preferred" categories or "followed" creators, uint64 ``(n, k)``."""
        ...


class NeighbourValues(Protocol):
    """Live rows of neighbours."""

    @property
    def keys(self) -> pl.DataFrame:
        """A row for every live row: key, item."""
        ...

    def newest(self) -> I64:
        """Return the time of the newest pair, ms, int64 ``(n,)``."""
        ...

    def totals(self) -> F64:
        """Return the totals at the time of the newest pair: next, together; float64 ``(n, 2)``."""
        ...

    @property
    def slots(self) -> pl.DataFrame:
        """The neighbours: row (position), other, seq, co, seq_recent, co_recent."""
        ...


class ItemValues(CountValues, Protocol):
    """Live rows of items, or of items in countries."""

    @property
    def places(self) -> U64 | None:
        """The keys under which readers look up the rows, uint64 ``(n,)``; None when the key is the item."""
        ...

    def where(self, kept: Bool) -> Self:
        """Return only the rows where ``kept``, bool ``(n,)``, is true."""
        ...

    def first_ts(self) -> I64:
        """Return the time (ms) of the first event, int64 ``(n,)``."""
        ...

    def last_click(self) -> I64:
        """Return the time (ms) of the last click, int64 ``(n,)``; 0 without any."""
        ...
