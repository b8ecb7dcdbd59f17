import numpy as np
import numpy.typing as npt

def chances_of_largest(
    t: npt.NDArray[np.float64], a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the chance that a draw of each ``Beta(a[i], b[i])`` is the largest, float64 ``(k,)``.

    Their sum is 1 but for the error of the trapezoidal rule.

    Parameters
    ----------
    t
        Log-odds in ascending order, ``(g,)``: the points of the rule.
    a, b
        Above 0, ``(k,)``.

    Raises
    ------
    ValueError
        There are not as many ``b`` as ``a``, or fewer than 2 points.
    """

def believed(
    clicks: npt.NDArray[np.float64],
    shown: npt.NDArray[np.float64],
    prior: npt.NDArray[np.float64],
    begin_clicks: float,
    begin_misses: float,
) -> npt.NDArray[np.float64]:
    """Return the two parameters of the Beta distribution that is believed of each item, float64 ``(2, k)``.

    Parameters
    ----------
    clicks, shown
        Of each, ``(k,)``, not negative.
    prior
        Click rate that is believed before its own counts, ``(k,)``; 0: what ``begin_clicks`` and
        ``begin_misses`` say, which count as much in any case.

    Raises
    ------
    ValueError
        The columns have different lengths.
    """

def grid(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    logs: npt.NDArray[np.float64],
    each: int,
    far: float,
    golden: float,
) -> npt.NDArray[np.float64]:
    """Return ``each`` points around the log-odds of each ``Beta(a[i], b[i])``, float64 ``(k * each,)``.

    Parameters
    ----------
    logs
        ``log(a / b)``, ``(k,)``: the middles.
    far
        How far the points go from there, in standard deviations.
    golden
        Those of each item are shifted by so much of a step against those of the one before it.

    Raises
    ------
    ValueError
        The arrays have different lengths.
    """
