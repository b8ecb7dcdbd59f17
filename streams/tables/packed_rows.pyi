"""Rows of an array as packed bytes and back, in bulk, compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes; rows may be strided.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]  # a structured array, one row a key

def pack_rows(data: Rows, rows: I64) -> tuple[bytes, I64]:
    """Return packed rows one after the other, and where each begins and the last ends, int64 ``(n + 1,)``."""

def unpack_rows(given: Sequence[bytes | None], data: Rows) -> Bool:
    """Unpack ``given[i]`` to ``data[i]``; return which were rows of that size, bool ``(n,)``. Skip the others
    and None."""
