"""Updates rows of what users were shown, compiled: one pass over the slots of a batch of impressions."""

from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Rows = npt.NDArray[Any]  # a structured array, one row a key

class ShownUpdates:
    """Puts shown items into rows."""

    def __init__(self, dtype: np.dtype[Any], *, items: int) -> None:
        """Look the fields up. A row has room for ``items``."""

    def apply(self, data: Rows, rows: I64, slots: I64, items: U64, ts: I64, offsets: I64) -> I64:
        """Apply impressions, in order; return the rows changed, each once.

        Those up to the offset of their row are skipped.

        Parameters
        ----------
        data, rows
            The rows of the table, and the row number of each impression, int64 ``(n,)``.
        slots, items
            How many items each impression has, int64 ``(n,)``, and all of them one after the other.
        ts, offsets
            Time (ms) and offset of each impression, int64 ``(n,)``.

        Raises
        ------
        ValueError
            When a time is before 1970 or after 2106, or the lengths do not fit.
        """
