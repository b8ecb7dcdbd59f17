import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

def pairs_in(rows: npt.NDArray[np.void], fade: F32) -> tuple[I64, U64, F32, float]:
    """Return the pairs of neighbour rows that have a weight, in the order of the rows.

    Parameters
    ----------
    rows
        ``neighbours.ROW`` ``(rows,)``.
    fade
        Factor of each row, float32 ``(rows,)``.

    Returns
    -------
    The row and the neighbour of each pair, ``(n,)``; its weights, float32 ``(5, n)``; ``seq_total`` of the
    first row, 0 for no rows. The weights are ``seq``; its share of ``seq_total``; ``co`` times the factor,
    divided by the root of 1 + ``co_total``; the share of ``seq_recent`` of its sum; ``co_recent`` times the
    factor, divided by the root of 1 + its sum.

    Raises
    ------
    ValueError
        The rows have other fields, or there are not as many factors.
    """

def pair_sums(keys: U64, anchor: I64, other: U64, weight: F32, fade: F32) -> F32:
    """Return sums of the weights of pairs by neighbour, float32 ``(7, n)``; each is added up in double.

    They are: the first and second weight of anchor 0; the second one of anchor 1; the second one of all,
    times ``fade``; the third one of all; the fourth one of anchor 0; the fifth one of all.

    Parameters
    ----------
    keys
        Different neighbours, ``(n,)``.
    anchor, other, weight
        The pairs, as of ``pairs_in``.
    fade
        Factor of each anchor.

    Raises
    ------
    ValueError
        The columns differ in length, or an anchor has no factor.
    """
