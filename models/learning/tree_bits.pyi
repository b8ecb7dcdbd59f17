"""Which leaves rows fall into, found by bits: for trees with at most 32 leaves, compiled.

Every node whose ``x > threshold`` takes the leaves of its left side away; of those that are left, the leaf of
a row is the first (QuickScorer, Lucchese et al., SIGIR 2015).
"""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U32 = npt.NDArray[np.uint32]

def bit_sums(x: F32, columns: I32, thresholds: F32, masks: U32, bounds: I32, values: F64) -> F64:
    """Return the sum of the values of the leaves that each row falls into, tree by tree, float64 ``(n,)``.

    Parameters
    ----------
    x
        float32 ``(n, width)``; NaN counts as 0.
    columns, thresholds, masks
        Of each inner node ``(m,)``: what it compares, and which leaves stay if ``x > threshold``.
    bounds
        The nodes of tree ``t`` are ``bounds[t]`` to ``bounds[t + 1]``, ``(trees + 1,)``.
    values
        Of the leaf at each of the 32 places of each tree ``(32 * trees,)``, from left to right.

    Raises
    ------
    ValueError
        The shapes do not fit, or a node reads a column that does not exist.
    """

def bit_sums_of_each(x: F32, each: list[tuple[I32, F32, U32, I32, F64]]) -> list[F64]:
    """Return ``bit_sums`` for each of several models; the rows are laid out once for all of them."""

def bit_leaves(x: F32, columns: I32, thresholds: F32, masks: U32, bounds: I32, nodes: I32) -> I32:
    """Return the number in ``nodes`` of the leaf that each row falls into, int32 ``(n, trees)``.

    Parameters are those of ``bit_sums``, with numbers in the place of values.
    """
