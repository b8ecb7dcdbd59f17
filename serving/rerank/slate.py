"""The list that the re-rank stage makes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

#: Why a rule or chance has put an item in its slot.
EXPLORED, FRESH, LONG_TAIL, WELCOME = "explored", "fresh", "long_tail", "welcome"


@dataclass(slots=True)
class Slate:
    """The list: positions in the candidate arrays, ``(n,)`` each.

    ``propensity[j]`` is the probability, given the slots above, of the item in slot j. ``explored[j]`` is
    true when it is not the greedy choice. ``reasons[j]`` is why it is in slot j, when it would not be there
    but for a rule or chance: "explored", "fresh", "long_tail", "welcome"; else empty. ``tried`` are the
    positions that were on the list once, before late filters removed something; empty: they did not.
    """

    chosen: I64
    propensity: npt.NDArray[np.float64]
    explored: npt.NDArray[np.bool_]
    reasons: list[str]
    tried: I64 = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def empty(cls, n: int) -> Slate:
        """Return a list of ``n`` slots that are to be filled."""
        return cls(np.zeros(n, np.int64), np.ones(n), np.zeros(n, bool), [""] * n)

    def where(self, keep: npt.NDArray[np.bool_]) -> Slate:
        """Return the slots chosen by a mask ``(n,)``."""
        reasons = [reason for reason, kept in zip(self.reasons, keep.tolist(), strict=True) if kept]
        return Slate(self.chosen[keep], self.propensity[keep], self.explored[keep], reasons)

    def followed_by(self, last: I64, places: I64) -> Slate:
        """Return the list with the candidates ``last`` at its end, in this order and certain.

        ``places`` are the places in the candidate arrays of the candidates that this list was made from.
        """
        return Slate(
            np.concatenate([places[self.chosen], last]),
            np.concatenate([self.propensity, np.ones(len(last))]),
            np.concatenate([self.explored, np.zeros(len(last), bool)]),
            self.reasons + [""] * len(last),
        )
