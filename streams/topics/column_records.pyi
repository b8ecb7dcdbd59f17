"""Records made from columns: their JSON, and their frames with keys and timestamps. Compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes. A column of texts is its bytes, one text after
the other, and where they begin and end, int32 ``(n + 1,)``, as in Arrow.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

#: Kinds of pieces: a text, written as a JSON string; a text written as it is (a number); the beginning and
#: the end of an object.
TEXT: int
PLAIN: int
OPEN: int
CLOSE: int

def json_rows(pieces: list[tuple[int, bytes, Any, Any, Any]], n: int) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Return a JSON object for each row, one after the other, and their bounds, int64 ``(n + 1,)``.

    Parameters
    ----------
    pieces
        Kind, what is written before the value (``"name":``), bytes, bounds, and which rows have a value,
        uint8 ``(n,)`` (None: all). Others write nothing. ``OPEN`` and ``CLOSE`` have only kind and name.

    Raises
    ------
    ValueError
        When bounds do not fit.
    """

def keyed_frame(
    keys: Any,
    key_bounds: npt.NDArray[np.int32],
    blob: Any,
    bounds: npt.NDArray[np.int64],
    timestamps: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    name: bytes,
    value: bytes,
) -> tuple[bytes, int, int, int]:
    """Return some rows as the records of one record batch: bytes, number, first and largest timestamp (ms).

    Record ``i`` has key, value and timestamp of ``rows[i]``; the first one also has the header ``name``.

    Raises
    ------
    ValueError
        When there are no rows, or bounds do not fit.
    """
