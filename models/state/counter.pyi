"""Counts of a row: windows, all-time totals, decayed counts; compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
Rows = npt.NDArray[Any]  # a structured array, one row a key

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
        """Look the fields up. ``tiers`` are (name, milliseconds of a bucket, slots of the ring).

        Decayed counts are those at ``updated``, rounded down to ``stand_ms``.
        """

    def add(self, data: Rows, rows: Ints, ts: Ints, metric: Ints, amount: Ints) -> None:
        """Add ``amount[i]`` to ``metric[i]`` of ``rows[i]`` at ``ts[i]`` (ms); rows may repeat.

        Amounts older than the ring of a tier are left out of that tier.

        Raises
        ------
        ValueError, IndexError, TypeError
            An amount is negative, a time is not between 0 and the year 6000, there is no such row or metric,
            or the columns are of different lengths or not of whole numbers. Nothing has been added then.
        """
