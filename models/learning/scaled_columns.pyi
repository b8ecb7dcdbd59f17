"""The scaled inputs of the online model, compiled: one pass instead of three."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

def scaled(x: F32, first: int, mean: F32, scale: F32, most: float) -> F32:
    """Return ``clip((x - mean) / scale, -most, most)``, float32 ``(n, k)``, column after column in memory.

    Parameters
    ----------
    x
        Rows, float32 ``(n, columns)``; they may be strided.
    first
        The first of the columns that are read.
    mean, scale
        Of each of them, ``(k,)``.

    Raises
    ------
    ValueError
        There are too few columns, or not as many scales as means.
    """
