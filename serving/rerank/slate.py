"""From scores to a list: diversity (MMR) and exploration with exact propensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class Slate:
    """The list: positions in the candidate arrays, ``(n,)`` each.

    ``propensity[j]`` is the probability, given the slots above, that slot j shows what it shows.
    """

    chosen: I64
    propensity: npt.NDArray[np.float64]
    explored: npt.NDArray[np.bool_]


def rerank(
    score: npt.NDArray[np.float64],
    vectors: F32,
    n: int,
    *,
    mmr_lambda: float,
    epsilon: float,
    rng: np.random.Generator,
) -> Slate:
    """Fill ``n`` slots greedily.

    Parameters
    ----------
    score
        Higher is better, float64 ``(m,)``.
    vectors
        Unit vectors (zeros: no content), float32 ``(m, DIM)``.
    mmr_lambda
        Weight of relevance against similarity to what is already on the list (Carbonell & Goldstein 1998);
        1 switches diversity off. Relevance is scaled to 0..1 over the best candidates.
    epsilon
        Chance, slot by slot, of a uniformly random remaining candidate instead of the greedy one.
    rng
        Source of the randomness.

    Notes
    -----
    Propensity of what slot j shows: ``epsilon / remaining``, plus ``1 - epsilon`` if it is the greedy choice.
    """
    m = len(score)
    n = min(n, m)
    order = np.argsort(-score, kind="stable")
    best = order[: min(m, max(3 * n, 60))]
    relevance = score[best] - score[best[-1]] if m else score[best]
    top = float(relevance.max()) if m else 0.0
    relevance = relevance / top if top > 0 else relevance
    diverse = mmr_lambda < 1 and bool(vectors.any())
    similarity = vectors[best] @ vectors[best].T if diverse else None
    closest = np.zeros(len(best))
    free = np.ones(m, bool)
    open_best = np.ones(len(best), bool)
    place = np.full(m, -1)
    place[best] = np.arange(len(best))
    coins = rng.random(n) < epsilon
    if similarity is None and not coins.any():  # the common case, at once
        greedy_only = 1 - epsilon + epsilon / (m - np.arange(n))
        return Slate(order[:n], greedy_only, np.zeros(n, bool))
    chosen, propensity, explored = np.empty(n, np.int64), np.empty(n), np.zeros(n, bool)
    next_best = 0
    for slot in range(n):
        if similarity is None:
            while not open_best[next_best]:
                next_best += 1
            greedy = int(best[next_best])
        else:
            value = mmr_lambda * relevance - (1 - mmr_lambda) * closest
            value[~open_best] = -np.inf
            greedy = int(best[int(value.argmax())])
        remaining = m - slot
        pick = int(rng.choice(np.flatnonzero(free))) if coins[slot] else greedy
        chosen[slot] = pick
        propensity[slot] = epsilon / remaining + (1 - epsilon if pick == greedy else 0.0)
        explored[slot] = pick != greedy
        free[pick] = False
        if (at := int(place[pick])) >= 0:
            open_best[at] = False
            if similarity is not None:
                closest = np.maximum(closest, similarity[at])
    return Slate(chosen, propensity, explored)
