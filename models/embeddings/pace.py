"""Which clicks are learnt when they come faster than they can be learnt. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Up to so many events behind, every click is learnt.
BEHIND = 20_000


class Pace:
    """Chooses a sample, evenly spread: the further behind, the smaller. So the lag stays bounded.

    Parameters
    ----------
    behind
        Up to so many events behind, all are chosen; at a lag of ``k`` times as many, one in ``k``.

    Attributes
    ----------
    chosen, skipped
        How many clicks were chosen, and how many not.
    """

    def __init__(self, behind: int = BEHIND) -> None:
        self.behind = behind
        self.chosen = self.skipped = 0
        self._part = 0.0

    def choose(self, n: int, lag: int) -> npt.NDArray[np.bool_]:
        """Return which of ``n`` clicks to learn, bool ``(n,)``, at a lag of so many events."""
        share = min(1.0, self.behind / max(1, lag))
        if share == 1.0:
            self.chosen += n
            return np.ones(n, bool)
        sums = self._part + share * np.arange(n + 1)
        out: npt.NDArray[np.bool_] = np.diff(np.floor(sums)) > 0
        self._part = float(sums[-1] % 1.0)
        taken = int(np.count_nonzero(out))
        self.chosen += taken
        self.skipped += n - taken
        return out
