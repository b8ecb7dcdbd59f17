"""Spherical k-means in bulk: which of thousands of directions a vector is nearest to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import nearest_of

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

_ROUNDS = 6
#: Vectors that a direction is trained on, at most.
SAMPLE = 32
#: Vectors that a thread takes at once.
_PART = 4096


def assign(vectors: Quantised, centroids: F32, threads: int = 1) -> I32:
    """Return which centroid has the largest inner product with each vector, int32 ``(n,)``."""
    among, n = Quantised.of(centroids), len(vectors.scale)

    def part(start: int) -> I32:
        end = start + _PART
        return nearest_of(vectors.high[start:end], vectors.low[start:end], among.high, among.scale)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate([np.zeros(0, np.int32), *pool.map(part, range(0, n, _PART))])


def train(sample: F32, count: int, threads: int = 1, seed: int = 7) -> F32:
    """Return ``count`` directions, unit vectors float32 ``(count, dim)``, in the middle of groups of vectors.

    Parameters
    ----------
    sample
        Unit vectors, float32 ``(n, dim)``, at least ``count``. At most 32 for each direction are looked at.
    """
    rng = np.random.default_rng(seed)
    sample = sample[rng.permutation(len(sample))[: SAMPLE * count]]
    quantised, centroids = Quantised.of(sample), sample[:count].copy()
    for _ in range(_ROUNDS):
        nearest = assign(quantised, centroids, threads)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=count)
        taken = np.flatnonzero(sizes)
        starts = np.cumsum(sizes) - sizes
        centroids[taken] = np.add.reduceat(sample[order], starts[taken], axis=0)
        empty = np.flatnonzero(sizes == 0)
        centroids[empty] = sample[rng.integers(0, len(sample), len(empty))]
        norms = np.sqrt((centroids * centroids).sum(axis=1, keepdims=True))
        centroids /= np.maximum(norms, np.float32(1e-12))
    return centroids
