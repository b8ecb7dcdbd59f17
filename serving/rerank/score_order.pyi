import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

def lifted(scores: F64, factors: F64) -> F64:
    """Return scores after factors, float64 ``(n,)``: a factor above 1 lifts an item.

    A ranker's raw scores may be negative; those are divided, so that a factor above 1 lifts them too.

    Parameters
    ----------
    factors
        Above 0, ``(n,)``.

    Raises
    ------
    ValueError
        There are not as many factors as scores.
    """

def lifted_but(scores: F64, left: npt.NDArray[np.bool_], factor: float) -> F64:
    """Return ``lifted`` with the same factor for all but those that are ``left`` alone, bool ``(n,)``.

    Raises
    ------
    ValueError
        There are not as many marks as scores.
    """

def best_first(scores: F64) -> npt.NDArray[np.int64]:
    """Return the places of scores from the largest on, int64 ``(n,)``; of equal ones, the first comes first.

    It is ``np.argsort(-scores, kind="stable")`` for scores that are no NaN, without branches that depend on
    them.
    """
