"""Row numbers that wait to be looked at, a limited number at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


class WaitingRows:
    """A queue of row numbers; it may have some of them several times."""

    def __init__(self) -> None:
        self._parts: list[I64] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: I64) -> None:
        """Put rows at the end, int64 ``(n,)``."""
        if len(rows):
            self._parts.append(rows)
            self._count += len(rows)

    def take(self, most: int) -> I64:
        """Remove the first ``most`` rows; return them in ascending order, each once."""
        taken = list[I64]()
        while self._parts and most > 0:
            taken.append(self._parts[0][:most])
            rest = self._parts[0][most:]
            self._parts[:1] = [rest] if len(rest) else []
            most -= len(taken[-1])
            self._count -= len(taken[-1])
        if not taken:
            return np.zeros(0, np.int64)
        rows: I64 = np.sort(np.concatenate(taken))
        once: I64 = rows[np.diff(rows, prepend=-1) != 0]
        return once

    def clear(self) -> None:
        """Forget all."""
        self._parts.clear()
        self._count = 0
