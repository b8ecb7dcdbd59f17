import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

def all_finite(scores: F64) -> bool:
    """Return whether all scores ``(n,)`` are finite numbers."""

def lifted_by_boosts(scores: F64, boosts: F64, least: float) -> F64:
    """Return scores after boosts, float64 ``(n,)``: a boost above 1 lifts an item.

    A ranker's raw scores may be negative; those are divided, so that a boost above 1 lifts them too. The
    same array when all boosts are 1.

    Parameters
    ----------
    boosts
        Factors, ``(n,)``; a smaller one counts as ``least``, which is above 0.

    Raises
    ------
    ValueError
        There are not as many boosts as scores.
    """

def lifted_but(scores: F64, left: npt.NDArray[np.bool_], factor: float) -> F64:
    """Return scores with the same boost for all but those that are ``left`` alone, bool ``(n,)``.

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
