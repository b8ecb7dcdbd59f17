# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Places of candidates by a value, compiled: a few passes over its bits, and no comparison."""

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

cdef enum:
    BITS = 8
    BUCKETS = 256
    PASSES = 4


cdef One *_sorted(One *ones, One *room, Py_ssize_t n) noexcept nogil:
    """Sort, the largest value first; equal ones stay in their order. Return where they are now."""
    cdef int32_t counts[PASSES][BUCKETS]
    cdef int32_t count, total
    cdef Py_ssize_t i
    cdef uint32_t value
    cdef int turn, bucket, shift
    cdef One *other
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        value = ones[i].value
        counts[0][value & 255] += 1
        counts[1][value >> 8 & 255] += 1
        counts[2][value >> 16 & 255] += 1
        counts[3][value >> 24] += 1
    for turn in range(PASSES):
        shift = turn * BITS
        if counts[turn][ones[0].value >> shift & 255] == n:
            continue  # all the same: small counts have only zeros at the end
        total = 0
        for bucket in range(BUCKETS - 1, -1, -1):
            count = counts[turn][bucket]
            counts[turn][bucket] = total
            total += count
        for i in range(n):
            bucket = ones[i].value >> shift & 255
            room[counts[turn][bucket]] = ones[i]
            counts[turn][bucket] += 1
        other = ones
        ones = room
        room = other
    return ones


cdef void ranks_into(const float *score, Py_ssize_t n, float *rank, One *room) noexcept nogil:
    """Write the ranks of scores ``(n,)``; ``room`` is for ``2 * n``."""
    cdef Py_ssize_t i, found = 0
    cdef One *ones = room
    for i in range(n):
        rank[i] = 0
        memcpy(&ones[found].value, &score[i], 4)
        ones[found].place = <int32_t> i
        found += score[i] > 0
    if found:
        ones = _sorted(ones, room + n, found)
    for i in range(found):
        rank[ones[i].place] = <float> (i + 1)


def ranks(const float[:] score not None):
    cdef Py_ssize_t i, n = score.shape[0]
    out = np.empty(n, np.float32)
    cdef float[::1] rank = out
    cdef One *room = <One *> malloc(max(<Py_ssize_t> 1, n) * (2 * sizeof(One) + sizeof(float)))
    if room == NULL:
        raise MemoryError()
    cdef float *values = <float *> (room + 2 * n)
    with nogil:
        for i in range(n):
            values[i] = score[i]
        ranks_into(values, n, &rank[0], room)
    free(room)
    return out
