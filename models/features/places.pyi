"""Places of candidates by a value, compiled: a few passes over its bits, and no comparison."""

import numpy as np
import numpy.typing as npt

def ranks(score: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 for the highest, 2 for the next ..., 0 where the score is not above 0; float32 ``(n,)``.

    Of equal scores, the first has the lower rank.
    """
