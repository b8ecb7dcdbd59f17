"""Diversity: maximal marginal relevance (Carbonell & Goldstein 1998)."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F32


class Mmr:
    """The penalty is the similarity to the closest item on the list, times the strength.

    Parameters
    ----------
    vectors
        Of the candidates; unit vectors (zeros: no content), float32 ``(w, DIM)``.
    strength
        Weight of similarity against relevance, 0..1.
    """

    def __init__(self, vectors: F32, strength: float) -> None:
        self._weighted = np.float32(strength) * vectors
        self.penalty: F32 = np.zeros(len(vectors), np.float32)

    def put(self, vector: F32) -> None:
        """Note that an item with this vector is on the list."""
        np.maximum(self.penalty, self._weighted @ vector, out=self.penalty)
