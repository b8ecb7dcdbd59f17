"""Redis commands written in bulk, compiled. Arrays are C-contiguous, of exactly these dtypes."""

import numpy as np
import numpy.typing as npt

def set_commands(
    before: bytes,
    after: bytes,
    keys: npt.NDArray[np.uint64],
    blob: bytes,
    bounds: npt.NDArray[np.int64],
) -> memoryview:
    """Return ``<before><key as 16 hex digits>\\r\\n$<length>\\r\\n<value><after>`` for every key.

    The value of key ``i`` is ``blob[bounds[i]:bounds[i + 1]]``.
    """
