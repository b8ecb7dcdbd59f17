"""Rows put in place in a table, in bulk, compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes; rows may be strided.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Rows = npt.NDArray[Any]  # a structured array, one row a key

class GivenRows:
    """The given rows that have the right size and layout and a key; rows may be packed."""

    keys: U64
    """Their keys, ``(n,)``."""
    refused: int
    """Number of given rows that are not among them."""

    def __init__(
        self, given: Sequence[bytes] | Rows, size: int, key_at: int, layout_at: int, layout: int
    ) -> None:
        """Look at rows: packed ones, or an array; ``layout_at`` is -1 where rows carry no layout."""

    def put(self, data: Rows, rows: I64, new: I64, order_at: I64) -> int:
        """Copy each row to its place in ``rows`` unless the row there is newer; return how many were copied.

        ``new`` are the positions (rising) whose row holds nothing yet; ``order_at`` the places of the int64
        fields that tell which row is newer.
        """

def blank_rows(data: Rows, blank: Rows, rows: I64, key_at: int, keys: U64) -> None:
    """Copy the one row ``blank`` to ``rows``, and put their keys in."""
