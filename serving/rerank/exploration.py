"""Exploration: some slots show a random candidate, with exactly known probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


class Exploration:
    """Decides for each slot whether a uniformly random candidate replaces the greedy choice.

    Parameters
    ----------
    m, n
        Number of candidates, and of slots to fill (``n <= m``).
    epsilon
        Chance of a random candidate, for each slot.
    rng
        Source of the randomness.

    Notes
    -----
    Propensity of the item in slot j, given the slots above: ``epsilon / remaining``, plus ``1 - epsilon`` if
    it is the greedy choice.
    """

    def __init__(self, m: int, n: int, epsilon: float, rng: np.random.Generator) -> None:
        self._m, self._n = m, n
        self._epsilon = epsilon
        self._rng = rng
        self._coins = rng.random(n) < epsilon
        self._free = np.ones(m, bool)

    @property
    def happens(self) -> bool:
        """Whether any slot is filled at random."""
        return bool(self._coins.any())

    def pick(self, slot: int, greedy: int) -> tuple[int, float]:
        """Fill the slot: return the position of a candidate not picked yet, and its propensity."""
        pick = int(self._rng.choice(np.flatnonzero(self._free))) if self._coins[slot] else greedy
        self._free[pick] = False
        remaining = self._m - slot
        return pick, self._epsilon / remaining + (1 - self._epsilon if pick == greedy else 0.0)

    def greedy_propensities(self) -> F64:
        """Return the propensities of a list on which every slot shows the greedy choice, float64 ``(n,)``."""
        out: F64 = 1 - self._epsilon + self._epsilon / (self._m - np.arange(self._n))
        return out
