"""Where the lists of an index lie among its rows, and in which directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.serving.index.quantised import Quantised

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """The lists of a catalogue.

    Attributes
    ----------
    centroids
        Their directions, float32 ``(lists, dim)``.
    starts
        First row of each, and the number of rows, int64 ``(lists + 1,)``.
    """

    centroids: F32
    starts: I64

    @property
    def directions(self) -> Quantised:
        """The directions as they are searched."""
        return Quantised.of(self.centroids)
