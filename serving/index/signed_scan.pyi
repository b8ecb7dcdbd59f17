"""Largest inner products among many rows, compiled: signs say which rows to read (``signs.py``).

Arrays are C-contiguous, of exactly these dtypes. The vectors have 64 coordinates.
"""

import numpy as np
import numpy.typing as npt

from headrace.serving.index.scan import Rows

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

class SignedRows:
    """Rows in lists, with the signs of what they differ from the centre of their list.

    Parameters
    ----------
    rows
        The rows.
    signs, sizes
        As of ``signs.Signs``.
    plain
        Do not use the wide registers of the processor; the results are the same.

    Raises
    ------
    ValueError
        When the shapes do not belong together.
    """

    def __init__(self, rows: Rows, signs: U8, sizes: F32, plain: bool = False) -> None: ...
    def nearest(
        self,
        query: F32,
        turned: F32,
        begins: I64,
        ends: I64,
        centres: F32,
        k: int,
        wide: int,
        most: int,
        margin: float,
    ) -> tuple[I64, F32]:
        """Return up to ``k`` rows with the largest inner products, and these; see ``Rows.nearest``.

        Only rows are read whose estimate plus ``margin`` times their size reaches the best ``wide`` so far.
        The GIL is released.

        Parameters
        ----------
        query, turned
            The query, and the same under the rotation, float32 ``(64,)``.
        begins, ends, centres
            The lists, int64 ``(m,)``, and the product of the query with the centre of each, float32 ``(m,)``.
        k, wide, most
            As of ``Rows.nearest``.
        margin
            How far an estimate may be too small, in sizes.

        Raises
        ------
        ValueError
            When a range is not one of rows, or the arrays do not belong together.
        """
