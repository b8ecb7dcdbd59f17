"""Updates rows of items with item events, compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state.counter import Counter

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]  # a structured array, one row a key
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

class ItemUpdates:
    """Counts item events in rows of items, or of (item, country)."""

    def __init__(
        self, counter: Counter, dtype: np.dtype[Any], *, metric: Sequence[int], by_country: bool
    ) -> None:
        """Look the fields up. ``metric`` is by kind of event, -1 for none."""

    def apply(self, data: Rows, rows: I64, events: Records, offsets: I64) -> Bool:
        """Count events in their rows; return which of them counted."""
