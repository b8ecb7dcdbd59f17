"""How far numbers have moved that several learners move at once, and how far they move together. Pure.

The learners begin with the same numbers, and each takes its steps alone. After few examples the moves add up,
as if one learner had taken all steps. After many, each number is near to what the examples of its learner
say, and the moves are averaged (McDonald et al., "Distributed training strategies for the structured
perceptron", NAACL 2010). Both follow from how far a number has gone towards that place: after squared
gradients that sum up to ``s``, about ``1 - exp(-rate * s)`` of the way, because they are about the curvature
of the log-loss. So what learners make together is the sum of their moves, times

    (1 - exp(-rate * (s1 + s2 + ...))) / ((1 - exp(-rate * s1)) + (1 - exp(-rate * s2)) + ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(slots=True)
class Growth:
    """How far numbers have moved.

    Attributes
    ----------
    moved
        What was added to each, float64 ``(n,)``.
    squares
        Sums of the squared gradients that moved them, float64 ``(n,)``.
    """

    moved: F64
    squares: F64

    @classmethod
    def none(cls, n: int) -> Growth:
        """Return ``n`` numbers that have not moved."""
        return cls(np.zeros(n), np.zeros(n))

    def then(self, later: Growth, *, moved: float = 1.0, squares: float = 1.0) -> Growth:
        """Return both, one after the other; of moves and squares of the first these shares are kept."""
        return Growth(self.moved * moved + later.moved, self.squares * squares + later.squares)

    def sound(self) -> bool:
        """Return whether all numbers are finite and no sum of squares is negative."""
        return bool(
            np.isfinite(self.moved).all() and np.isfinite(self.squares).all() and (self.squares >= 0).all()
        )


def together(growths: Sequence[Growth], rate: F64 | float) -> F64:
    """Return how far numbers move together, float64 ``(n,)``.

    Parameters
    ----------
    growths
        Of one learner or more, from the same numbers.
    rate
        Length of a step for a gradient of 1: one for all numbers, or ``(n,)``.
    """
    moved: F64 = np.sum([g.moved for g in growths], 0)
    if len(growths) == 1:
        return moved
    ways = np.sum([-np.expm1(-rate * g.squares) for g in growths], 0)
    way = -np.expm1(-rate * np.sum([g.squares for g in growths], 0))
    out: F64 = moved * np.divide(way, ways, out=np.ones_like(ways), where=ways > 0)
    return out
