"""An array that grows without a pause: it is neither copied nor filled with zeros when it does.

NumPy's ``resize`` writes zeros into all new memory, 8 ms for 16 MB, and the allocator copies an array of up
to 32 MB to another place, 13 ms. So a large array is a view of a range of addresses that is reserved once.
The system gives a page of zeros when it is first used, and a longer array is a longer view.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

#: Elements there is room for at first.
FIRST = 64
#: Smaller arrays are copied when they grow: it takes a fraction of a millisecond.
_SMALL_BYTES = 1024 * 1024
#: Most bytes by which an array grows at once.
_STEP_BYTES = 16 * 1024 * 1024
#: Addresses reserved for an array: a process has 2,000 times as many, and they cost no memory.
_RESERVED_BYTES = 64 * 1024**3
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class Room:
    """Room for elements of one type; what was not written to is zero.

    Attributes
    ----------
    array
        All elements there is room for. ``grow`` and ``shrink`` replace it.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._range: mmap.mmap | None = None
        self.array: npt.NDArray[Any] = np.zeros(FIRST, self._dtype)

    def grow(self, least: int) -> None:
        """Make room for ``least`` elements, and some more, if there is not enough."""
        size = len(self.array)
        if least > size:
            more = min(size // 4, _STEP_BYTES // self._dtype.itemsize) + FIRST
            self.take(max(least, size + more))

    def take(self, size: int) -> None:
        """Make room for just ``size`` elements, at least as many as there is room for."""
        wanted = size * self._dtype.itemsize
        before = self.array
        if self._range is None and _SMALL_BYTES < wanted <= _RESERVED_BYTES:
            self._range = _reserved()
        elif self._range is not None and wanted <= _RESERVED_BYTES:
            self.array = np.frombuffer(self._range, self._dtype, size)
            return
        else:
            self._range = None
        if self._range is None:
            self.array = np.zeros(size, self._dtype)
        else:
            self.array = np.frombuffer(self._range, self._dtype, size)
        self.array[: len(before)] = before

    def shrink(self, size: int) -> None:
        """Have room for the first ``size`` elements only; the others were not written to."""
        self.array = self.array[:size]


def _reserved() -> mmap.mmap | None:
    """Return a range of addresses, None where the system grants only as many as it has memory."""
    try:
        return mmap.mmap(-1, _RESERVED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    except (OSError, ValueError, OverflowError):
        return None
