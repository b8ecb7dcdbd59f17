"""Rounds many numbers at once, to the same numbers that ``round`` gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

#: The product with a power of 10 is off by less than ``_NEAR``, up to ``_MOST``.
_NEAR, _MOST = 1e-3, 1e12


def rounded(values: F64, digits: int) -> list[Any]:
    """Return each value rounded as ``round(value, digits)`` does it, in lists nested as the array is.

    ``round`` writes the number in decimal and reads that again. A whole number divided by a power of 10 is
    the same number, unless it is not clear which whole number: there ``round`` decides.
    """
    scale = 10.0**digits
    scaled = values * scale
    whole = np.rint(scaled)
    out = whole / scale
    clear = (np.abs(scaled - whole) < 0.5 - _NEAR) & (np.abs(scaled) < _MOST)
    if not clear.all():
        out[~clear] = [round(value, digits) for value in values[~clear].tolist()]
    listed: list[Any] = out.tolist()
    return listed
