# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Places of candidates by a value, compiled: a few passes over its bits, and no comparison."""

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

cdef enum:
    BITS = 11
    BUCKETS = 2048
    PASSES = 3  # the sign of a positive float is 0: 31 bits are left

cdef struct One:
    uint32_t value  # of a positive float, its bits are in the order of the floats
    int32_t place


cdef void _sort(One *ones, One *room, Py_ssize_t n) noexcept nogil:
    """Sort in place, the largest value first; equal ones stay in their order."""
    cdef int32_t starts[BUCKETS]
    cdef int32_t count, total
    cdef Py_ssize_t i
    cdef int turn, bucket, shift
    cdef One *other
    for turn in range(PASSES):
        shift = turn * BITS
        memset(starts, 0, sizeof(starts))
        for i in range(n):
            starts[ones[i].value >> shift & (BUCKETS - 1)] += 1
        total = 0
        for bucket in range(BUCKETS - 1, -1, -1):
            count = starts[bucket]
            starts[bucket] = total
            total += count
        for i in range(n):
            bucket = ones[i].value >> shift & (BUCKETS - 1)
            room[starts[bucket]] = ones[i]
            starts[bucket] += 1
        other = ones
        ones = room
        room = other
    memcpy(room, ones, n * sizeof(One))  # an odd number of passes: the result is in the other half


def ranks(const float[:] score not None):
    cdef Py_ssize_t i, found = 0, n = score.shape[0]
    cdef float value
    out = np.zeros(n, np.float32)
    cdef float[::1] rank = out
    cdef One *ones = <One *> malloc(2 * max(<Py_ssize_t> 1, n) * sizeof(One))
    if ones == NULL:
        raise MemoryError()
    with nogil:
        for i in range(n):
            value = score[i]
            if value > 0:
                memcpy(&ones[found].value, &value, 4)
                ones[found].place = <int32_t> i
                found += 1
        if found:
            _sort(ones, ones + n, found)
        for i in range(found):
            rank[ones[i].place] = <float> (i + 1)
    free(ones)
    return out
