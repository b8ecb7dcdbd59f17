"""A candidate relative to the others of the same list: ranks and shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

#: Weight, in counts, of the average in smoothed shares.
SMOOTHING = np.float32(20)


def ranks(score: F32) -> F32:
    """Return 1 for the highest, 2 for the next ..., 0 where the score is 0; float32 ``(n,)``."""
    out = np.zeros(len(score), np.float32)
    at = np.flatnonzero(score > 0)  # often few
    out[at[np.argsort(-score[at], kind="stable")]] = np.arange(1, len(at) + 1)
    return out


def share(x: F32) -> F32:
    """Return each value as a share of the sum, float32 ``(n,)``; zeros stay zeros."""
    total = float(x.sum())
    return x / np.float32(total) if total > 0 else x


def smoothed(x: F32, towards: F32) -> F32:
    """Return the shares of the counts ``x``, smoothed towards the shares ``towards``; float32 ``(n,)``."""
    out: F32 = ((x + SMOOTHING * towards) / (x.sum() + SMOOTHING)).astype(np.float32)
    return out
