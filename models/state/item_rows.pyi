"""Copies of the rows of items, those of idle items among them; compiled."""

from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

class ItemRows:
    """Copies rows of one layout; an idle item has a few fields of it.

    Several rows are fetched from memory at once: a loop that waits for each takes a few times as long.

    Parameters
    ----------
    blank
        The row of an item without events, of shape ``()``.
    idle
        Dtype of the rows of idle items, ``idle_items.IDLE``.
    click
        Place of the clicks among the totals of a row.

    Raises
    ------
    ValueError
        A field is missing or has another type.
    """

    def __init__(self, blank: npt.NDArray[np.void], idle: np.dtype[Any], click: int) -> None: ...
    def copied(
        self, data: npt.NDArray[Any], rows: I64, idle: npt.NDArray[Any], idle_rows: I64 | None
    ) -> npt.NDArray[np.void]:
        """Return copies of rows, ``(n,)``; blank ones where an item has none.

        Parameters
        ----------
        data, rows
            Whole rows, and the row of each item, int64 ``(n,)``; -1: none.
        idle, idle_rows
            Rows of idle items, and that of each item, int64 ``(n,)``; -1: none. Where there is a whole row,
            it does not count. None: no item is idle.

        Raises
        ------
        IndexError, ValueError
            There is no such row, or the rows are of another size.
        """
