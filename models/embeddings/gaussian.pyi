"""Gaussian vectors drawn from keys, compiled: the numbers that numpy's generators draw."""

import numpy as np
import numpy.typing as npt

def gaussian_rows(keys: npt.NDArray[np.uint64], out: npt.NDArray[np.float32], scale: float) -> None:
    """Fill row ``i`` of ``out``, ``(n, d)``, with standard normal numbers divided by ``scale``.

    They are, bit for bit, ``Generator(Philox(key=keys[i])).standard_normal(d, dtype=float32)`` divided by
    ``float32(scale)``, in a small part of the time. Other threads may run meanwhile. ``ValueError`` when the
    shapes do not fit.
    """
