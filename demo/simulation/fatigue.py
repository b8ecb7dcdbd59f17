"""What users have looked at without a click: every time, they want it a little less."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Log-odds lost with every look, and the looks after which no more is lost.
FATIGUE, MOST_LOOKS = 0.15, 6


class Fatigue:
    """Looks without a click, by user and item."""

    def __init__(self) -> None:
        self._looks: dict[int, dict[int, int]] = {}

    def looked(self, user: int, items: list[int]) -> None:
        """Count a look of a user at each of ``items``."""
        of_user = self._looks.setdefault(user, {})
        for item in items:
            of_user[item] = min(MOST_LOOKS, of_user.get(item, 0) + 1)

    def lost(self, user: int, items: I64) -> F64:
        """Return the log-odds that each item has lost with a user, float64 ``(n,)``."""
        of_user = self._looks.get(user)
        if not of_user:
            return np.zeros(len(items))
        return FATIGUE * np.array([of_user.get(item, 0) for item in items.tolist()], np.float64)

    def lost_everywhere(self, user: int, size: int) -> F64:
        """Return the same for the items 0 to ``size`` - 1: no slower with more of them that were not seen."""
        out = np.zeros(size)
        if of_user := self._looks.get(user):
            out[list(of_user)] = [FATIGUE * looks for looks in of_user.values()]
        return out
