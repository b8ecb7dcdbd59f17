"""What a list is worth, from the hidden numbers: expected clicks, the best possible list, and regret.

    expected clicks = sum over slots of examination(position) * p(click once it is looked at)

No user clicks an item twice: what was read is worth nothing. Slots are looked at less and less from the top,
so the best list has the items with the highest p, the highest one first (rearrangement inequality).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.demo.simulation.formula import examination

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def expected_clicks(items: I64, worth: F64) -> float:
    """Return the expected clicks on a list.

    Parameters
    ----------
    items
        Rows of the items in the order of the list, -1 for an unknown one; a second copy is worth nothing.
    worth
        p(click once it is looked at) of every item of the catalogue; 0 for what was read.
    """
    first = np.zeros(len(items), bool)
    first[np.unique(items, return_index=True)[1]] = True
    counts = first & (items >= 0)
    return float((examination(np.arange(len(items)))[counts] * worth[items[counts]]).sum())


def best_items(worth: F64, n: int) -> I64:
    """Return the rows of the best list of ``n`` items, int64 ``(<=n,)``; of equal items, the first ones."""
    n = min(n, len(worth))
    some = np.argpartition(-worth, n - 1)[:n] if n else np.zeros(0, np.int64)
    least = worth[some].min() if n else 0.0
    some = np.flatnonzero(worth >= least)
    out: I64 = some[np.argsort(-worth[some], kind="stable")][:n]
    return out


@dataclass(slots=True)
class Regret:
    """Expected clicks of the lists that were shown, and of the best possible ones."""

    lists: int = 0
    got: float = 0.0
    best: float = 0.0

    def add(self, got: float, best: float) -> None:
        """Count a list."""
        self.lists += 1
        self.got += got
        self.best += best

    @property
    def share(self) -> float:
        """Share of the best possible clicks; 0 without any list."""
        return self.got / self.best if self.best else 0.0

    @property
    def a_list(self) -> float:
        """Regret: expected clicks that a list lacks, on average."""
        return (self.best - self.got) / max(1, self.lists)
