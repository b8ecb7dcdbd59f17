"""A candidate relative to the others of the same list: ranks and shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.places import ranks

__all__ = ["SMOOTHING", "ranks", "share", "smoothed"]

F32 = npt.NDArray[np.float32]

#: Weight, in counts, of the average in smoothed shares.
SMOOTHING = np.float32(20)


def share(x: F32) -> F32:
    """Return each value as a share of the sum, float32 ``(n,)``; zeros stay zeros."""
    total = float(x.sum())
    return x / np.float32(total) if total > 0 else x


def smoothed(x: F32, towards: F32) -> F32:
    """Return the shares of the counts ``x``, smoothed towards the shares ``towards``; float32 ``(n,)``."""
    out: F32 = ((x + SMOOTHING * towards) / (x.sum() + SMOOTHING)).astype(np.float32)
    return out
