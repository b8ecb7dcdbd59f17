import numpy as np
import numpy.typing as npt

from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.rules import Rules

class CreatorDecay:
    """After k items of a creator, the factor of the others is ``max(floor, decay ** k)``.

    Items without a creator are left alone.

    Parameters
    ----------
    creator
        Of the candidates, the best first, uint64 ``(m,)``; 0: none.
    width
        So many of the best have a factor.

    Raises
    ------
    ValueError
        There are fewer than ``width`` candidates.
    """

    def __init__(self, creator: npt.NDArray[np.uint64], width: int, decay: float, floor: float) -> None: ...
    @staticmethod
    def of(choices: Choices, width: int, rules: Rules) -> CreatorDecay | None:
        """Return the rule for the best ``width`` candidates, None when it is off."""

    def put(self, place: int, factors: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Multiply the factors ``(width,)`` of the items of this creator; see ``Decay.put``."""
