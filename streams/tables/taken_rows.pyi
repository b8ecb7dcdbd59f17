"""Copies of rows that lie far apart in memory, or of a field of them, compiled.

Several rows are fetched from memory at once: a loop that waits for each takes a few times as long.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

def bytes_of_rows(
    data: npt.NDArray[Any], rows: npt.NDArray[np.int64], at: int, size: int
) -> npt.NDArray[np.uint8]:
    """Return bytes ``at`` to ``at + size`` of rows, uint8 ``(n, size)``; zeros for row -1.

    Parameters
    ----------
    data
        A structured array ``(m,)``.
    rows
        Row numbers, C-contiguous ``(n,)``.

    Raises
    ------
    IndexError, ValueError
        A row number, or the bytes asked for, are out of range.
    """
