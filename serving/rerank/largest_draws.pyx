# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How likely each of several Beta draws is the largest: the integral, compiled."""

from libc.math cimport exp, expf, log, log1p
from libc.stdlib cimport free, malloc

import numpy as np

cdef enum:
    LEAST_POWER = -80  # of e: what is less counts as 0


def chances_of_largest(const double[::1] t not None, const double[::1] a not None, const double[::1] b not None):
    cdef Py_ssize_t k = a.shape[0], g = t.shape[0], i
    cdef double *room
    if b.shape[0] != k or g < 2:
        raise ValueError(f"{k} and {b.shape[0]} parameters, {g} points")
    out = np.zeros(k)
    cdef double[::1] chance = out
    room = <double *> malloc((2 * k + 4) * g * sizeof(double))
    if room == NULL:
        raise MemoryError()
    try:
        with nogil:
            _fill(&t[0], &a[0], &b[0], k, g, room)
            for i in range(k):
                chance[i] = _area(&t[0], room + i * g, NULL, g)
    finally:
        free(room)
    return out


cdef void _fill(const double *t, const double *a, const double *b, Py_ssize_t k, Py_ssize_t g, double *room) noexcept nogil:
    """Write, for each item and point, its density times the distribution functions of all others."""
    cdef double *below = room + k * g
    cdef double *log_x = room + 2 * k * g
    cdef double *log_1_x = log_x + g
    cdef double *before = log_x + 2 * g
    cdef double *after = log_x + 3 * g
    cdef Py_ssize_t i, j
    for j in range(g):
        before[j] = after[j] = 1
        if t[j] > 0:
            log_x[j] = -log1p(exp(-t[j]))
            log_1_x[j] = log_x[j] - t[j]
        else:
            log_1_x[j] = -log1p(exp(t[j]))
            log_x[j] = log_1_x[j] + t[j]
    for i in range(k):
        _bell(t, log_x, log_1_x, a[i], b[i], g, room + i * g, below + i * g)
        for j in range(g):
            room[i * g + j] *= before[j]
            before[j] *= below[i * g + j]
    for i in range(k - 1, -1, -1):
        for j in range(g):
            room[i * g + j] *= after[j]
            after[j] *= below[i * g + j]


cdef void _bell(
    const double *t, const double *log_x, const double *log_1_x, double a, double b, Py_ssize_t g, double *density,
    double *below
) noexcept nogil:
    """Write the density of an item's log-odds, with area 1, and its distribution function."""
    cdef double top = a * log(a / (a + b)) + b * log(b / (a + b)), power, total
    cdef Py_ssize_t j
    for j in range(g):
        power = a * log_x[j] + b * log_1_x[j] - top
        density[j] = expf(<float> power) if power > LEAST_POWER else 0
    total = _area(t, density, below, g)
    if total <= 0:
        return
    for j in range(g):
        density[j] /= total
        below[j] /= total


cdef double _area(const double *t, const double *y, double *upto, Py_ssize_t g) noexcept nogil:
    """Return the area under ``y``, by trapezoids; write that up to each point, if it is asked for."""
    cdef double total = 0
    cdef Py_ssize_t j
    if upto != NULL:
        upto[0] = 0
    for j in range(1, g):
        total += (y[j] + y[j - 1]) * 0.5 * (t[j] - t[j - 1])
        if upto != NULL:
            upto[j] = total
    return total
