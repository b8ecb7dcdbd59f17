"""When ids were last seen: a hash table, compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes.
"""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

class LastSeen:
    """When each 64-bit id was last seen. Ids not seen within the window are expired."""

    def __init__(self, window_ms: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""

    def fresh(self, ids: U64, times: I64) -> Bool:
        """Return which ids were not seen within the window before their time; remember all of them."""
