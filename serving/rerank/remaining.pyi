from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from headrace.serving.rerank.parts import Decay, Diversifier

class Remaining:
    """Candidates in the order of their scores: which are not on the list yet, and what the best would add.

    Parameters
    ----------
    scores
        The best first, finite, float64 ``(m,)``.
    width
        So many of the best are compared with one another.
    weight
        What the best one adds at first. The last of the ``width`` adds 0.

    Attributes
    ----------
    open
        Which are not on the list, bool ``(m,)``; to be read only.
    factors
        Factors of the best ones, 1 at first, float64 ``(width,)``; see ``weaker``.

    Raises
    ------
    ValueError
        There are no candidates, or fewer than ``width``.
    """

    open: npt.NDArray[np.bool_]
    factors: npt.NDArray[np.float64]

    def __init__(self, scores: npt.NDArray[np.float64], width: int, weight: float) -> None: ...
    def best(
        self, penalty: npt.NDArray[np.float32] | None, allowed: npt.NDArray[np.bool_] | None = None
    ) -> int:
        """Return the place of the allowed candidate that adds most; of equal ones, the first.

        When none of the ``width`` best is allowed, it is the best allowed one of the others.

        Parameters
        ----------
        penalty
            What each of the best ones adds less, float32 ``(width,)``.
        allowed
            Which may be chosen, bool ``(m,)``; at least one. None: all that are open.

        Raises
        ------
        ValueError
            An array has another length.
        """

    def fill(
        self,
        chosen: npt.NDArray[np.int64],
        propensity: npt.NDArray[np.float64],
        epsilon: float,
        diversifier: Diversifier | None,
        decays: Sequence[Decay],
        near: npt.NDArray[np.float32],
        vector_of: Callable[[int], npt.NDArray[np.float32]],
    ) -> None:
        """Fill slots one after another, each with the open candidate that adds most, and take those.

        Parameters
        ----------
        chosen, propensity
            Get the place in each slot, and its probability, ``(n,)``: ``epsilon`` is the chance that a random
            one was drawn instead.
        diversifier, decays
            Are told what is on the list, as in ``parts.py``; None: nothing keeps similar ones apart.
        near, vector_of
            The vectors of the first candidates, ``(k, DIM)``; returns that of another one by its place.

        Raises
        ------
        ValueError
            An array has another length, or there are fewer open candidates than slots.
        """

    def put(
        self,
        place: int,
        diversifier: Diversifier | None,
        decays: Sequence[Decay],
        near: npt.NDArray[np.float32],
        vector_of: Callable[[int], npt.NDArray[np.float32]],
    ) -> None:
        """Take the candidate at this place, and tell what ``fill`` tells of what is on the list."""

    def take(self, place: int) -> None:
        """Note that the candidate at this place is on the list."""

    def weaker(self, places: npt.NDArray[np.int64]) -> None:
        """Note that factors of some of the best ones have changed. A negative score is divided by them."""
