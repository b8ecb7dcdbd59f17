# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Factors on scores, and the order of scores, compiled."""

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

cdef enum:
    DIGITS = 8  # of a score, each of 8 bits
    VALUES = 256


def all_finite(const double[:] scores not None):
    cdef Py_ssize_t i
    for i in range(scores.shape[0]):
        if not isfinite(scores[i]):
            return False
    return True


def lifted_by_boosts(scores not None, const double[:] boosts not None, double least):
    cdef Py_ssize_t i, n = boosts.shape[0]
    cdef const double[:] before = scores
    cdef double[::1] to
    cdef double factor
    if before.shape[0] != n:
        raise ValueError(f"{before.shape[0]} scores, {n} boosts")
    for i in range(n):
        if boosts[i] != 1:
            break
    else:
        return scores
    out = np.empty(n)
    to = out
    for i in range(n):
        factor = least if boosts[i] < least else boosts[i]
        to[i] = before[i] * factor if before[i] > 0 else before[i] / factor
    return out


def lifted_but(const double[:] scores not None, left not None, double factor):
    cdef Py_ssize_t i, n = scores.shape[0]
    cdef const char[:] same = left.view(np.int8)
    if same.shape[0] != n:
        raise ValueError(f"{n} scores, {same.shape[0]} marks")
    out = np.empty(n)
    cdef double[::1] to = out
    for i in range(n):
        to[i] = scores[i] if same[i] else scores[i] * factor if scores[i] > 0 else scores[i] / factor
    return out


def best_first(const double[:] scores not None):
    cdef Py_ssize_t n = scores.shape[0], i
    out = np.empty(n, np.int64)
    cdef int64_t[::1] to = out
    cdef uint64_t *room
    if n == 0:
        return out
    room = <uint64_t *> malloc((4 * n + DIGITS * VALUES) * sizeof(uint64_t))
    if room == NULL:
        raise MemoryError()
    try:
        with nogil:
            _sort(scores, &to[0], n, room)
    finally:
        free(room)
    return out


cdef inline uint64_t _key(double score) noexcept nogil:
    """Return a number that is the smaller the better a score is; 0 and -0 have the same."""
    cdef uint64_t bits
    score = score + 0.0
    memcpy(&bits, &score, sizeof(score))
    return bits if bits >> 63 else bits ^ <uint64_t> 0x7FFFFFFFFFFFFFFF


cdef void _sort(const double[:] scores, int64_t *to, Py_ssize_t n, uint64_t *room) noexcept nogil:
    """Sort by digits, from the last one on: each pass keeps the order of those that are equal."""
    cdef uint64_t *key = room
    cdef uint64_t *place = room + n
    cdef uint64_t *other_key = room + 2 * n
    cdef uint64_t *other_place = room + 3 * n
    cdef uint64_t *count = room + 4 * n
    cdef uint64_t *swap
    cdef uint64_t *here
    cdef uint64_t begin, size, at
    cdef Py_ssize_t i
    cdef int digit, value
    memset(count, 0, DIGITS * VALUES * sizeof(uint64_t))
    for i in range(n):
        key[i], place[i] = _key(scores[i]), i
        for digit in range(DIGITS):
            count[digit * VALUES + (key[i] >> 8 * digit & 255)] += 1
    for digit in range(DIGITS):
        here = count + digit * VALUES
        if here[key[0] >> 8 * digit & 255] == <uint64_t> n:  # the same in all
            continue
        begin = 0
        for value in range(VALUES):
            size = here[value]
            here[value] = begin
            begin += size
        for i in range(n):
            value = key[i] >> 8 * digit & 255
            at = here[value]
            here[value] = at + 1
            other_key[at], other_place[at] = key[i], place[i]
        swap, key = key, other_key
        other_key = swap
        swap, place = place, other_place
        other_place = swap
    for i in range(n):
        to[i] = place[i]
