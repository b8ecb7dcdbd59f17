"""Updates rows of items with item events, compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state.counter import Counter

I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]  # a structured array, one row a key
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

class ItemUpdates:
    """Counts item events in rows of items, of (item, country), or of (item, age group in a country)."""

    def __init__(self, counter: Counter, dtype: np.dtype[Any], *, metric: Sequence[int], by: int) -> None:
        """Look the fields up; ``metric`` by kind of event, -1: none; ``by`` as in ``choose_item_events``."""

    def apply(self, data: Rows, rows: I64, events: Records, at: I64, offsets: I64) -> I64:
        """Count events in their rows; return the rows changed, each once.

        A record has many events, all with one offset. An event counts when its offset is larger than that of
        its row was before the batch.

        Parameters
        ----------
        data
            The table of the rows.
        at, rows
            Positions of the events to count, in order, and the row of each, int64 ``(m,)``.
        events, offsets
            All events of the batch, ``ITEM_EVENT``, and the offset of the record of each, int64, ``(n,)``.

        Raises
        ------
        ValueError
            When offsets fall, when an event is of a kind that is not counted, or when its time does not fit.
        """
