"""Vectors in 16 bits a coordinate, the high and the low bytes apart.

The high bytes alone are an int8 vector: a search reads those of many rows. The low bytes make the coordinate
exact to 1/32639 of the row's largest: they are read for the best rows only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]

_COARSE = np.float32(127)
#: Largest coordinate of a row in units of its scale: the high byte is at most 127, the low byte too.
_LARGEST = 127 * 256 + 127


class Quantised(NamedTuple):
    """Vectors ``(high * 256 + low) * scale``.

    Attributes
    ----------
    high, low
        int8 ``(n, dim)``.
    scale
        float32 ``(n,)``; 0 for a vector of zeros.
    """

    high: I8
    low: I8
    scale: F32

    @classmethod
    def of(cls, vectors: F32) -> Quantised:
        """Quantise vectors, float32 ``(n, dim)``."""
        largest = np.abs(vectors).max(axis=1, initial=0)
        scale = (largest / _LARGEST).astype(np.float32)
        units = np.divide(vectors, scale[:, None], out=np.zeros_like(vectors), where=scale[:, None] > 0)
        whole = np.rint(units).astype(np.int16)
        np.clip(whole, -_LARGEST, _LARGEST, out=whole)
        high = (whole + np.int16(128)) >> 8
        return cls(high.astype(np.int8), (whole - (high << 8)).astype(np.int8), scale)

    def take(self, rows: I64 | slice) -> Quantised:
        """Return some rows; views of them for a slice."""
        return Quantised(self.high[rows], self.low[rows], self.scale[rows])

    def alike(self, other: Quantised) -> Bool:
        """Return which vectors are the same as those in the same places, bool ``(n,)``."""
        same: Bool = self.scale == other.scale
        same &= (self.high == other.high).all(axis=1)
        same &= (self.low == other.low).all(axis=1)
        return same

    def put(self, at: slice, vectors: Quantised) -> None:
        """Replace the rows of a slice."""
        self.high[at], self.low[at], self.scale[at] = vectors

    def vectors(self, rows: I64) -> F32:
        """Return the vectors of some rows, float32 ``(m, dim)``."""
        whole = self.high[rows].astype(np.float32)
        whole *= 256
        whole += self.low[rows]
        whole *= self.scale[rows, None]
        return whole


def coarse(vectors: F32) -> I8:
    """Return unit vectors to two digits, int8 of the same shape."""
    out: I8 = np.rint(vectors * _COARSE).astype(np.int8)
    return out


def of_coarse(vectors: I8) -> F32:
    """Return the vectors that ``coarse`` was given, to two digits."""
    return vectors.astype(np.float32) / _COARSE
