"""Updates what users hid, compiled: a pass over the events that hide something, or undo it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.columns import EventColumns

I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]  # a structured array, one row a key

class HiddenUpdates:
    """Puts hidden items and creators into rows of users, and takes them out.

    ``hide`` puts the item at the end of the hidden ones, and its creator too if the event says so; when there
    is no room, the first one goes. ``like`` takes the item out, ``follow`` the creator.
    """

    def __init__(self, dtype: np.dtype[Any], *, items: int, creators: int) -> None:
        """Look the fields up. A row has room for so many hidden items and creators."""

    def apply(self, data: Rows, rows: I64, events: EventColumns) -> None:
        """Apply events, in order; ``rows`` has the row number of each, int64 ``(n,)``."""
