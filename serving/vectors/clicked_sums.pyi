"""Sums of the vectors of the items that a user clicked, compiled."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

def clicked_sums(vectors: F32, rows: I64, anchors: int, fade: F32) -> tuple[F32, int, int]:
    """Return the sum of the anchors' vectors and the mean of the clicks', added up, float32 ``(DIM,)``.

    Parameters
    ----------
    vectors, rows
        Of the anchors, newest first, then of the clicks: float32 ``(n, DIM)``, zeros where there is none, and
        their rows in the catalogue, int64 ``(n,)``, -1: none. A click without a row does not count.
    anchors
        How many anchors there are.
    fade
        Weight of each anchor's vector, float32 ``(at least anchors,)``; anchors without one have no place.

    Returns
    -------
    The sum, the place of the first anchor with a vector (-1: none), how many clicks count.

    Raises
    ------
    ValueError
        The shapes do not fit.
    """
