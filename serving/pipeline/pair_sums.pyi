import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

def pairs_in(
    other: U64, seq: F32, co: F32, seq_recent: F32, co_recent: F32, of_row: F32
) -> tuple[I64, U64, F32]:
    """Return the pairs of neighbour rows that have a weight, in the order of the rows.

    Parameters
    ----------
    other, seq, co, seq_recent, co_recent
        Columns of ``neighbours.ROW``, ``(rows, SLOTS)``.
    of_row
        What ``seq`` of a row is divided by, ``co`` multiplied, ``seq_recent`` divided, ``co_recent``
        multiplied; float32 ``(4, rows)``.

    Returns
    -------
    The row and the neighbour of each pair, ``(n,)``; its ``seq`` and these four, float32 ``(5, n)``.

    Raises
    ------
    ValueError
        The columns differ in shape.
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
