"""Updates neighbour rows with pairs of items, compiled."""

from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]  # a structured array, one row a key
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

class NeighbourUpdates:
    """Adds pairs to neighbour rows."""

    def __init__(
        self, dtype: np.dtype[Any], *, slots: int, step_ms: int, half_life_ms: float, recent_ms: float
    ) -> None:
        """Look the fields up. Ages are whole ``step_ms``; ``recent_ms`` is the shorter half-life."""

    def apply(self, data: Rows, rows: I64, events: Records, at: I64, offsets: I64) -> I64:
        """Add pairs in order; return the rows changed, each once. As ``ItemUpdates.apply``."""
