"""Steps of the online click model, one example after another, compiled."""

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

def learn_linear(
    x: F64,
    slots: npt.NDArray[np.uint32],
    clicked: npt.NDArray[np.uint8],
    weights: F64,
    squares: F64,
    table: F64,
    table_squares: F64,
    step: float,
    table_step: float,
    early: bool,
) -> None:
    """Take one step of logistic regression for each example, in order; all arrays are C-contiguous.

    Weights of columns take steps of AdaGrad (Duchi et al., JMLR 2011), ``step * g / sqrt(sum of g**2)``;
    those of the table take plain ones.

    Parameters
    ----------
    x
        Inputs, float64 ``(n, width)``.
    slots
        The slots of the table that each example reads, uint32 ``(n, terms)``.
    clicked
        Labels ``(n,)``.
    weights, squares
        Of the columns and, at the end, of the bias, float64 ``(width + 1,)``: changed in place. ``squares``
        are the sums of squared gradients so far; they begin with a positive number.
    early
        Every example was learnt as not clicked when it was shown, and a clicked one is learnt again: see
        `early_join`.
    table, table_squares
        Weights of the slots, and the sums of their squared gradients so far, float64 ``(SLOTS,)``: changed in
        place. The steps of the table do not depend on its sums.

    Raises
    ------
    ValueError
        The shapes do not fit, or a slot is outside of the table. Nothing is changed then.
    """
