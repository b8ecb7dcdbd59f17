"""Rule: an item the request excludes is not shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]


def not_excluded(keys: U64, exclude: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return which of ``keys`` (distinct, ascending) are not in ``exclude`` and not 0, bool ``(n,)``."""
    out = np.ones(len(keys), bool)
    if len(keys):
        gone = np.array([0, *exclude], np.uint64)
        at = np.minimum(np.searchsorted(keys, gone), len(keys) - 1)
        out[at[keys[at] == gone]] = False
    return out
