from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.columns import EventColumns

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]  # a structured array, a row a key
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

COLUMNS: tuple[str, ...]

class Counter:
    """Adds to the windows, totals and decayed counts of rows of one dtype."""

    size: int
    def __init__(
        self,
        dtype: np.dtype[Any],
        metrics: int,
        tiers: Sequence[tuple[str, int, int]],
        half_life_ms: float,
        stand_ms: int,
    ) -> None:
        """Look the fields up. ``tiers`` are (name, bucket in ms, slots of the ring).

        Decayed counts stand at ``updated``, rounded down to ``stand_ms``.
        """

    def add(self, data: Rows, rows: I64, ts: I64, metric: I64, amount: I64) -> None:
        """Add ``amount[i]`` (not negative) to ``metric[i]`` of ``rows[i]`` at ``ts[i]`` (ms)."""

class Users:
    """Applies events to rows of users: counts, tastes, recent clicks, sessions, pairs."""

    def __init__(
        self,
        counter: Counter,
        dtype: np.dtype[Any],
        gap_ms: int,
        *,
        recent: int,
        affinities: int,
        pairs: int,
        seq_step: int,
        half_life_ms: float,
        metric: Sequence[int],
        taste: Sequence[float],
        dwell_s: int,
    ) -> None:
        """Look the fields up. ``metric`` and ``taste`` are by kind of event, ``dwell_s`` is a metric."""

    def apply(self, data: Rows, rows: I64, events: EventColumns) -> tuple[Bool, Records]:
        """Apply events in order; return which of them counted and the pairs they made."""

class Items:
    """Counts item events in rows of items, or of (item, country)."""

    def __init__(
        self, counter: Counter, dtype: np.dtype[Any], *, metric: Sequence[int], by_country: bool
    ) -> None:
        """Look the fields up. ``metric`` is by kind of event, -1 for none."""

    def apply(self, data: Rows, rows: I64, events: Records, offsets: I64) -> Bool:
        """Count events in their rows; return which of them counted."""

class Neighbours:
    """Adds pairs to neighbour rows."""

    def __init__(self, dtype: np.dtype[Any], *, slots: int, step_ms: int, half_life_ms: float) -> None:
        """Look the fields up. Ages are told in whole ``step_ms``."""

    def apply(self, data: Rows, rows: I64, pairs: Records, offsets: I64) -> Bool:
        """Add pairs in order; return which of them counted."""

def item_events(
    events: EventColumns,
    pairs: Records,
    source_partition: int,
    seq_step: int,
    n_pairs: int,
    counted: Sequence[bool],
) -> Records:
    """Return the item events of applied events and of their pairs (both ways), by ``source_seq``."""

def split_item_events(arrays: list[Records], count: int) -> tuple[Records, I64]:
    """Return all item events by the partition of their item (modulo ``count``), and how many each has, int64
    ``(count,)``. The order within a partition is kept."""

def distinct(rows: I64, n_rows: int) -> I64:
    """Return each of ``rows`` (below ``n_rows``) once, in the order of their first mention."""
