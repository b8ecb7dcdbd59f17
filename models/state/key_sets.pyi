from typing import Any

import numpy as np
import numpy.typing as npt

def among(keys: npt.NDArray[Any], few: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which keys, uint64 ``(n,)``, are among a few others, bool ``(n,)``.

    It is ``np.isin``, in a tenth of its time for a few hundred keys.
    """

def numbered(keys: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return a number for each key, uint64 ``(n,)``, int64 ``(n,)``: from 0 on, in the order they come first.

    The same key has the same number.
    """
