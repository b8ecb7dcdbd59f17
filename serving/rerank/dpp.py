"""Diversity: greedy choice from a determinantal point process (Chen, Zhang, Zhou, NeurIPS 2018).

The list is built to maximise ``log det L``, where ``L[i, j] = q[i] * S[i, j] * q[j]``: q is the quality, S
the similarity. Each step adds the item with the largest gain, ``2 log q[i] + log d[i]``; ``d[i]`` is the part
of item i that the list does not explain: 1 at first, small for an item like those on the list.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.serving.rerank.choices import F32

#: Part of an item that is its own, whatever its vector is. So two items with the same vector may both be
#: shown, and the gain stays finite when there are more items than dimensions.
OWN = 0.05


class Dpp:
    """The penalty is minus the log of what the list does not explain yet, times the strength.

    Parameters
    ----------
    vectors
        Of the candidates; unit vectors (zeros: no content), float32 ``(candidates, DIM)``.
    n
        Longest list.
    strength
        Weight of diversity against relevance, 0..1: the quality is ``exp(relevance * (1 - strength) /
        (2 * strength))``, as in section 4 of the paper.

    Notes
    -----
    ``S`` is ``(1 - OWN)`` times the cosine, and 1 on the diagonal. The paper keeps a Cholesky factor that
    grows with the list. With vectors of a fixed length there is a cheaper way, with the same lists::

        d[i] = 1 - (1 - OWN) * (v[i]' v[i] - v[i]' A v[i]),
        A = inverse(I + (1 - OWN) / OWN * (sum of v v' over the list))

    Each item on the list takes ``w w'`` from A (Sherman-Morrison). The rows w are kept, so that a step is a
    few small products, O((candidates + list) DIM).
    """

    def __init__(self, vectors: F32, n: int, strength: float) -> None:
        self._vectors = vectors
        self._strength = np.float32(strength)
        self._taken = np.zeros((n, vectors.shape[1]), np.float32)  # the rows w
        self._shown = 0
        self._left = np.ones(len(vectors), np.float32)  # d
        self.penalty: F32 = np.zeros(len(vectors), np.float32)

    def put(self, vector: F32) -> None:
        """Note that an item with this vector is on the list."""
        taken = self._taken[: self._shown]
        w = vector - (taken @ vector) @ taken
        w /= math.sqrt(OWN / (1 - OWN) + float(vector @ w))
        self._taken[self._shown] = w
        self._shown += 1
        shared = self._vectors @ w
        self._left -= (1 - OWN) * (shared * shared)
        np.maximum(self._left, OWN / 2, out=self._left)  # it is OWN or more, but for rounding
        self.penalty = np.log(self._left) * -self._strength
