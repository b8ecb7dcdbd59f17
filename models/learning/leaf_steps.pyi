"""Trees whose leaf values can move: which leaves rows fall into, and the steps of the values, compiled."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

def sums_of(x: F32, nodes: I32, roots: I32, depths: I32, values: F64) -> F64:
    """Return the sum of the values of the leaves that each row falls into, tree by tree, float64 ``(n,)``.

    Parameters
    ----------
    x
        float32 ``(n, width)``, C-contiguous, no NaN.
    nodes
        int32 ``(m, 4)``: column, the bits of a float32 threshold, the next node if ``x <= threshold``, and if
        not. A leaf leads to itself.
    roots, depths
        Of each tree ``(trees,)``; a row goes ``depth`` nodes down.
    values
        Of each node ``(m,)``.

    Raises
    ------
    ValueError
        The shapes do not fit, or a node leads nowhere.
    """

def leaves_of(x: F32, nodes: I32, roots: I32, depths: I32) -> I32:
    """Return the leaf of each tree that each row falls into, int32 ``(n, trees)``; see ``sums_of``."""

def learn_leaves(
    leaves: I32,
    slots: npt.NDArray[np.uint32],
    clicked: npt.NDArray[np.uint8],
    values: F64,
    slope: float,
    deltas: F64,
    squares: F64,
    table: F64,
    table_squares: F64,
    step: float,
    table_step: float,
    pull: float,
    most: float,
    early: bool,
) -> F64:
    """Take one step of logistic regression for each example, in order, on its leaves and hashed terms.

    ``p = sigmoid(slope * (values + deltas of its leaves + table of its slots))``. A delta takes a step of
    AdaGrad (Duchi et al., JMLR 2011) and is pulled towards 0.

    Parameters
    ----------
    leaves, slots
        What each example reads, ``(n, trees)`` and ``(n, terms)``.
    clicked
        Labels ``(n,)``.
    values
        As trained ``(m,)``.
    deltas, squares
        ``(m,)``: changed in place. ``squares`` begin with a positive number.
    table, table_squares
        See ``steps.learn_linear``.
    pull
        Share of a delta that a step forgets.
    most
        Largest delta.
    early
        See ``steps.learn_linear``.

    Returns
    -------
    The raw score of each example before its step, without and with deltas and table, float64 ``(n, 2)``.

    Raises
    ------
    ValueError
        The shapes do not fit, or a leaf or slot does not exist. Nothing is changed then.
    """
