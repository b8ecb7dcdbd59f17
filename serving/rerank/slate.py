"""Makes a list from scores: diversity (``mmr.py``), then exploration (``exploration.py``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.serving.rerank.exploration import Exploration
from headrace.serving.rerank.mmr import GreedyChoice

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class Slate:
    """The list: positions in the candidate arrays, ``(n,)`` each.

    ``propensity[j]`` is the probability, given the slots above, of the item in slot j. ``explored[j]`` is
    true when it is not the greedy choice.
    """

    chosen: I64
    propensity: npt.NDArray[np.float64]
    explored: npt.NDArray[np.bool_]

    def where(self, keep: npt.NDArray[np.bool_]) -> Slate:
        """Return the slots chosen by a mask ``(n,)``."""
        return Slate(self.chosen[keep], self.propensity[keep], self.explored[keep])

    def followed_by(self, last: I64, places: I64) -> Slate:
        """Return the list with the candidates ``last`` at its end, in this order and certain.

        ``places`` are the places in the candidate arrays of the candidates that this list was made from.
        """
        return Slate(
            np.concatenate([places[self.chosen], last]),
            np.concatenate([self.propensity, np.ones(len(last))]),
            np.concatenate([self.explored, np.zeros(len(last), bool)]),
        )


def rerank(
    score: npt.NDArray[np.float64],
    vectors: F32,
    n: int,
    *,
    mmr_lambda: float,
    epsilon: float,
    rng: np.random.Generator,
) -> Slate:
    """Fill ``n`` slots, or as many as there are candidates.

    Parameters
    ----------
    score
        Higher is better, float64 ``(m,)``.
    vectors
        Unit vectors (zeros: no content), float32 ``(m, DIM)``.
    mmr_lambda
        Weight of relevance against similarity to what is already on the list; 1 switches diversity off.
    epsilon
        Chance, slot by slot, of a uniformly random remaining candidate instead of the greedy one.
    rng
        Source of the randomness.
    """
    n = min(n, len(score))
    greedy = GreedyChoice(score, vectors, n, mmr_lambda)
    exploration = Exploration(len(score), n, epsilon, rng)
    if not greedy.diverse and not exploration.happens:  # the common case, without a loop
        return Slate(greedy.order[:n], exploration.greedy_propensities(), np.zeros(n, bool))
    chosen, propensity, explored = np.empty(n, np.int64), np.empty(n), np.zeros(n, bool)
    for slot in range(n):
        best = greedy.choose()
        pick, propensity[slot] = exploration.pick(slot, best)
        greedy.put(pick)
        chosen[slot], explored[slot] = pick, pick != best
    return Slate(chosen, propensity, explored)
