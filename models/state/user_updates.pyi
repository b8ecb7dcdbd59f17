"""Updates rows of users with events, compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state.counter import Counter
from headrace.streams.messages.columns import EventColumns

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]  # a structured array, one row a key
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

class UserUpdates:
    """Applies events to rows of users: counts, tastes, views, recent clicks, sessions, pairs."""

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
        view_logs: npt.NDArray[np.float32],
    ) -> None:
        """Look the fields up.

        ``metric`` and ``taste`` are by kind of event, ``dwell_s`` is a metric; ``view_logs`` is what a view
        of so many whole seconds adds to ``cat_dwell``: the last one, what a longer one adds.
        """

    def apply(self, data: Rows, rows: I64, events: EventColumns) -> tuple[Bool, Records]:
        """Apply events in order; return which of them counted and the pairs they made."""
