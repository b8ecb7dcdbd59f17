"""Diversity: maximal marginal relevance (Carbonell & Goldstein 1998)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: The choice is among the best ``max(3 * n, 60)`` candidates: enough to be diverse, few enough to be fast.
_PER_SLOT, _AT_LEAST = 3, 60


class GreedyChoice:
    """Chooses slot by slot: relevant, and unlike what is on the list already.

    Parameters
    ----------
    score
        Higher is better, float64 ``(m,)``.
    vectors
        Unit vectors (zeros: no content), float32 ``(m, DIM)``.
    n
        Slots to fill, at most ``m``.
    mmr_lambda
        Weight of relevance against similarity; 1 switches diversity off. Relevance is the score, scaled to
        0..1 over the best candidates.

    Attributes
    ----------
    order
        Positions of all candidates by score, the highest first, int64 ``(m,)``.
    diverse
        Whether similarity is used.
    """

    def __init__(self, score: F64, vectors: F32, n: int, mmr_lambda: float) -> None:
        m = len(score)
        self.order = np.argsort(-score, kind="stable")
        self.diverse = mmr_lambda < 1 and bool(vectors.any())
        best = self.order[: min(m, max(_PER_SLOT * n, _AT_LEAST))]
        self._best = best
        self._place = np.full(m, -1)  # of a candidate among the best
        self._place[best] = np.arange(len(best))
        self._open = np.ones(len(best), bool)
        self._first_open = 0
        if self.diverse:
            self._lambda = mmr_lambda
            self._relevance = _scaled(score[best])
            self._similarity = vectors[best] @ vectors[best].T
            self._closest = np.zeros(len(best))  # similarity to the closest item on the list

    def choose(self) -> int:
        """Return the position of the best candidate that is not on the list yet."""
        if self.diverse:
            value = self._lambda * self._relevance - (1 - self._lambda) * self._closest
            value[~self._open] = -np.inf
            return int(self._best[int(value.argmax())])
        while not self._open[self._first_open]:
            self._first_open += 1
        return int(self._best[self._first_open])

    def put(self, candidate: int) -> None:
        """Note that the candidate at this position is on the list now, chosen here or at random."""
        place = int(self._place[candidate])
        if place < 0:
            return
        self._open[place] = False
        if self.diverse:
            self._closest = np.maximum(self._closest, self._similarity[place])


def _scaled(score: F64) -> F64:
    """Return scores, the highest first, scaled to 0..1; zeros when all are equal."""
    if not len(score):
        return score
    relevance: F64 = score - score[-1]
    top = float(relevance.max())
    return relevance / top if top > 0 else relevance
