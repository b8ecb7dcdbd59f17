import numpy as np
import numpy.typing as npt

def rounded(values: npt.NDArray[np.float64], digits: int) -> list[float]:
    """Return each value rounded as ``round(value, digits)`` does it, ``(n,)``.

    ``round`` writes the number in decimal and reads that again. A whole number divided by a power of 10 is
    the same number, unless it is not clear which whole number: there ``round`` decides.
    """
