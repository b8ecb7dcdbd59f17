# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Sums of the vectors of the items that a user clicked, compiled."""

from libc.stdint cimport int64_t

import numpy as np


cdef inline bint _any(const float *vector, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(width):
        if vector[k] != 0:
            return True
    return False


def clicked_sums(const float[:, ::1] vectors not None, const int64_t[::1] rows not None, Py_ssize_t anchors, const float[::1] fade not None):
    cdef Py_ssize_t i, k, n = vectors.shape[0], width = vectors.shape[1], found = 0
    cdef int64_t last = -1, clicks = 0
    cdef float w
    if rows.shape[0] != n or not 0 <= anchors <= n or fade.shape[0] < anchors:
        raise ValueError(f"{n} vectors, {rows.shape[0]} rows, {anchors} anchors, {fade.shape[0]} weights")
    whole, mean = np.zeros(width, np.float32), np.zeros(width, np.float32)
    cdef float[::1] total = whole
    cdef float[::1] sum_ = mean
    for i in range(anchors):
        if not _any(&vectors[i, 0], width):
            continue
        if last < 0:
            last = i
        w = fade[found]
        found += 1
        for k in range(width):
            total[k] += w * vectors[i, k]
    for i in range(anchors, n):
        if rows[i] >= 0:
            clicks += 1
            for k in range(width):
                sum_[k] += vectors[i, k]
    if clicks:
        for k in range(width):
            total[k] += sum_[k] / <float> clicks
    return whole, last, clicks
