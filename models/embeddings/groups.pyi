"""Groups of similar vectors, compiled."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

def groups_of(vectors: F32, weights: F32, most: int, like: float) -> npt.NDArray[np.int64]:
    """Return the group of each of a user's vectors, int64 ``(n, places)``, -1 for zeros.

    The first vector begins the first group. Each next one goes to the nearest group (by the inner product
    with the weighted mean of its members, scaled to length 1) if that is at least ``like``, else it begins
    another; when there are ``most``, it goes to the nearest.

    Parameters
    ----------
    vectors
        float32 ``(n, places, d)``, C-contiguous, ``d`` at least 1.
    weights
        Of each place, float32 ``(places,)``.

    Raises
    ------
    ValueError
        The shapes do not fit, or ``most`` is less than 1.
    """
