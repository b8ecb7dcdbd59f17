"""Weighted sums of rows of a matrix, in groups (bags), and their gradients, compiled.

Bag ``i`` has the members ``bounds[i]`` to ``bounds[i + 1]``: row numbers of a matrix, each with a weight.
Arrays are C-contiguous; those of floats are all float32 or all float64. All functions raise ``ValueError``
when shapes do not fit, or a member is not a row.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Real = TypeVar("Real", npt.NDArray[np.float32], npt.NDArray[np.float64])

def add_bags(rows: Real, members: I64, weights: Real, bounds: I64, out: Real) -> None:
    """Add to ``out[i]`` the weighted sum of the rows of bag ``i``.

    Parameters
    ----------
    rows
        ``(m, d)``.
    members, weights
        ``(n,)``.
    bounds
        ``(bags + 1,)``.
    out
        ``(bags, d)``.
    """

def spread_bags(grads: Real, members: I64, weights: Real, bounds: I64, out: Real) -> None:
    """Add the gradient of every bag, ``grads[i]`` times the weight, to the rows of its members.

    Parameters
    ----------
    grads
        ``(bags, d)``.
    out
        ``(m, d)``; the others as in ``add_bags``.
    """

def dot_bags(grads: Real, rows: Real, members: I64, bounds: I64, out: Real) -> None:
    """Write to ``out[j]`` the gradient of the weight of member ``j``: ``grads[i] @ rows[members[j]]``.

    Parameters
    ----------
    out
        ``(n,)``; the others as above.
    """
