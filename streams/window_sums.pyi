"""Values of windows: buckets of rows added up, compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes; rows may be strided.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
Rows = npt.NDArray[Any]  # a structured array, one row a key

class WindowSums:
    """Adds up the windows of rows of one layout.

    ``tiers``, int64 ``(n, 6)``: of each tier the offset of its low parts (uint16), of its high parts, of its
    head (int32); milliseconds of a bucket; bytes of a high part (0: none, 1, 2); buckets of the ring.
    """

    def __init__(self, tiers: I64, n_metrics: int, size: int) -> None: ...
    def read(self, data: Rows, asked: I64, now: int, rows: I64 | None = None) -> F32:
        """Return the windows ``asked`` (tier, buckets), float32 ``(n, len(asked), metrics)``."""

    def read_one(
        self, data: Rows, tier: int, metric: int, buckets: int, now: int, rows: I64 | None = None
    ) -> F32:
        """Return the newest ``buckets`` of one tier, of one metric, float32 ``(n,)``."""
