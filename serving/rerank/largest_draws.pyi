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
