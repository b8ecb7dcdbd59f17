"""Spherical k-means in bulk: which of thousands of directions a vector is nearest to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Directions

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

_ROUNDS = 6
#: Vectors that a direction is trained on, at most.
SAMPLE = 32
#: Vectors that a thread takes at once.
_PART = 4096
#: Up to this many centroids, a vector is compared with all of them.
_FEW = 512


def assign(vectors: Quantised, centroids: F32, threads: int = 1) -> I32:
    """Return which centroid has the largest inner product with each vector, int32 ``(n,)``.

    Many centroids are put into regions, and a vector is compared with those of the tenth of the regions that
    is nearest to it. So some vectors get another centroid than the nearest, one that is about as near.
    """
    order, directions, near = _in_regions(centroids, threads)

    def part(start: int) -> I32:
        end = start + _PART
        found: I32 = order[directions.nearest_of(vectors.high[start:end], vectors.low[start:end], near)]
        return found

    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(part, range(0, len(vectors.scale), _PART))
        return np.concatenate([np.zeros(0, np.int32), *parts])


def _in_regions(centroids: F32, threads: int) -> tuple[I32, Directions, int]:
    """Return the centroids by region, their numbers, and how many regions are near."""
    if len(centroids) <= _FEW:
        regions, region_of = np.zeros((1, centroids.shape[1]), np.float32), np.zeros(len(centroids), np.int32)
    else:
        regions = train(centroids, min(_FEW, int(np.sqrt(len(centroids)))), threads)
        region_of = assign(Quantised.of(centroids), regions, threads)
    taken, sizes = np.unique(region_of, return_counts=True)
    order = np.argsort(region_of, kind="stable").astype(np.int32)
    rows, around = Quantised.of(centroids[order]), Quantised.of(regions[taken])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int64)
    return order, Directions(rows.high, rows.scale, around.high, around.scale, starts), 1 + len(taken) // 10


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
