"""Largest inner products among quantised rows, compiled: a pass over int8, then 16 bits for the best.

Arrays are C-contiguous, of exactly these dtypes. The vectors have 64 coordinates.
"""

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

class Rows:
    """Quantised rows: row ``i`` stands for ``(high[i] * 256 + low[i]) * scale[i]``.

    Parameters
    ----------
    high, low
        Bytes of the vectors, int8 ``(n, 64)``.
    scale
        float32 ``(n,)``. A row with 0 has no vector: it is not found.
    dead
        Bit ``i`` of these bytes, lowest first, is 1 when row ``i`` must not be found; uint8 ``(>= n / 8,)``.
        It may be changed later.

    Raises
    ------
    ValueError
        When the shapes do not belong together.
    """

    n: int
    """Number of rows."""

    def __init__(self, high: I8, low: I8, scale: F32, dead: npt.NDArray[np.uint8]) -> None: ...
    def nearest(self, query: F32, begins: I64, ends: I64, k: int, wide: int, most: int) -> tuple[I64, F32]:
        """Return up to ``k`` rows with the largest inner products, and these, largest first.

        Of rows with the same product, the one with the largest number is first.

        The high bytes choose ``wide`` rows; all 16 bits choose ``k`` of them. The GIL is released.

        Parameters
        ----------
        query
            float32 ``(64,)``.
        begins, ends
            Ranges of rows, int64 ``(m,)``, searched in this order.
        k, wide
            How many rows to return, and how many to compare exactly.
        most
            No further range is begun once this many rows were looked at.

        Raises
        ------
        ValueError
            When a range is not one of rows here, or the query has another size.
        """

class Directions:
    """Rows in regions, to find the nearest of many rows. The vectors have 64 coordinates.

    Parameters
    ----------
    rows, scale
        High bytes of the rows, int8 ``(n, 64)``, and what they are multiplied by, float32 ``(n,)``.
    regions, region_scale
        The same of at most 1024 regions, ``(m, 64)`` and ``(m,)``.
    starts
        First row of each region, and ``n``, int64 ``(m + 1,)``. No region is empty.

    Raises
    ------
    ValueError
        When the shapes do not belong together.
    """

    def __init__(self, rows: I8, scale: F32, regions: I8, region_scale: F32, starts: I64) -> None: ...
    def nearest_of(self, high: I8, low: I8, near: int) -> npt.NDArray[np.int32]:
        """Return which row has the largest inner product with each vector, int32 ``(k,)``.

        Only rows of the ``near`` regions nearest to the vector are looked at. The GIL is released.

        Parameters
        ----------
        high, low
            Bytes of the vectors, int8 ``(k, 64)``.

        Raises
        ------
        ValueError
            When the shapes do not belong together.
        """
