# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Groups of similar vectors, compiled."""

from libc.math cimport INFINITY, sqrtf
from libc.stdint cimport int64_t

import numpy as np


cdef inline bint _any(const float *vector, Py_ssize_t width) noexcept:
    cdef Py_ssize_t k
    for k in range(width):
        if vector[k] != 0:
            return True
    return False


cdef inline float _near(const float *total, const float *vector, Py_ssize_t width) noexcept:
    """Return the inner product of a vector and a sum of vectors, scaled to length 1."""
    cdef float inner = 0, square = 0
    cdef Py_ssize_t k
    for k in range(width):
        inner += total[k] * vector[k]
        square += total[k] * total[k]
    return inner / sqrtf(square) if square > 0 else 0


def groups_of(const float[:, :, ::1] vectors not None, const float[::1] weights not None, int most, float like):
    cdef Py_ssize_t n = vectors.shape[0], places = vectors.shape[1], width = vectors.shape[2], i, p, k
    cdef int group, best, count
    cdef float near, nearest
    if weights.shape[0] != places or most < 1:
        raise ValueError("there must be a weight for each place, and at least one group")
    out = np.full((n, places), -1, np.int64)
    cdef int64_t[:, ::1] groups = out
    cdef float[:, ::1] sums = np.empty((most, width), np.float32)
    for i in range(n):
        count = 0
        sums[:, :] = 0
        for p in range(places):
            if not _any(&vectors[i, p, 0], width):
                continue
            best, nearest = 0, -INFINITY
            for group in range(count):
                near = _near(&sums[group, 0], &vectors[i, p, 0], width)
                if near > nearest:
                    best, nearest = group, near
            if count < most and nearest < like:
                best = count
                count += 1
            for k in range(width):
                sums[best, k] += weights[p] * vectors[i, p, k]
            groups[i, p] = best
    return out
