# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How likely each of several Beta draws is the largest: the integral, compiled."""

from libc.math cimport exp, expf, fmod, log, log1p, sqrt
from libc.stdlib cimport free, malloc

import numpy as np

cdef enum:
    LEAST_POWER = -80  # of e: what is less counts as 0
    TOGETHER = 4  # so many sums are added up at once: each waits for its last addition


def believed(
    const double[:] clicks not None, const double[:] shown not None, const double[:] prior not None, double begin_clicks,
    double begin_misses
):
    cdef Py_ssize_t k = clicks.shape[0], i
    cdef double weight = begin_clicks + begin_misses, before
    if shown.shape[0] != k or prior.shape[0] != k:
        raise ValueError(f"{k} clicks, {shown.shape[0]} shown, {prior.shape[0]} priors")
    out = np.empty((2, k))
    cdef double[:, ::1] to = out
    for i in range(k):
        before = prior[i] * weight if prior[i] > 0 else begin_clicks
        to[0, i] = clicks[i] + before
        to[1, i] = max(shown[i] - clicks[i], 0.0) + weight - before
    return out


def grid(
    const double[:] a not None, const double[:] b not None, const double[:] logs not None, Py_ssize_t each, double far,
    double golden
):
    cdef Py_ssize_t k = a.shape[0], i, j
    cdef double spread, shift, step = 2 * far / each
    if b.shape[0] != k or logs.shape[0] != k:
        raise ValueError(f"{k} and {b.shape[0]} parameters, {logs.shape[0]} logs")
    out = np.empty(k * each)
    cdef double[::1] to = out
    for i in range(k):
        spread = sqrt(1 / a[i] + 0.5 / (a[i] * a[i]) + 1 / b[i] + 0.5 / (b[i] * b[i]))
        shift = fmod(i * golden, 1.0)
        for j in range(each):
            to[i * each + j] = logs[i] + spread * ((j + shift) * step - far)
    return out


def chances_of_largest(const double[::1] t not None, const double[::1] a not None, const double[::1] b not None):
    cdef Py_ssize_t k = a.shape[0], g = t.shape[0], i
    cdef double *room
    if b.shape[0] != k or g < 2:
        raise ValueError(f"{k} and {b.shape[0]} parameters, {g} points")
    out = np.zeros(k)
    cdef double[::1] chance = out
    room = <double *> malloc((2 * k + 5) * g * sizeof(double))
    if room == NULL:
        raise MemoryError()
    try:
        with nogil:
            _fill(&t[0], &a[0], &b[0], k, g, room)
            _areas(room + (2 * k + 4) * g, room, NULL, k, g, &chance[0])
    finally:
        free(room)
    return out


cdef void _fill(const double *t, const double *a, const double *b, Py_ssize_t k, Py_ssize_t g, double *room) noexcept nogil:
    """Write, for each item and point, its density times the distribution functions of all others.

    After those, and four rows for what is needed on the way, come half of the distances of the points.
    """
    cdef double *below = room + k * g
    cdef double *log_x = room + 2 * k * g
    cdef double *log_1_x = log_x + g
    cdef double *before = log_x + 2 * g
    cdef double *after = log_x + 3 * g
    cdef double *half = log_x + 4 * g
    cdef Py_ssize_t i, j
    half[0] = 0
    for j in range(1, g):
        half[j] = 0.5 * (t[j] - t[j - 1])
    for j in range(g):
        before[j] = after[j] = 1
        if t[j] > 0:
            log_x[j] = -log1p(exp(-t[j]))
            log_1_x[j] = log_x[j] - t[j]
        else:
            log_1_x[j] = -log1p(exp(t[j]))
            log_x[j] = log_1_x[j] + t[j]
    _bells(log_x, log_1_x, half, a, b, k, g, room, below)
    for i in range(k):
        for j in range(g):
            room[i * g + j] *= before[j]
            before[j] *= below[i * g + j]
    for i in range(k - 1, -1, -1):
        for j in range(g):
            room[i * g + j] *= after[j]
            after[j] *= below[i * g + j]


cdef void _bells(
    const double *log_x, const double *log_1_x, const double *half, const double *a, const double *b, Py_ssize_t k,
    Py_ssize_t g, double *density, double *below
) noexcept nogil:
    """Write the density of each item's log-odds, with area 1, and its distribution function."""
    cdef double top, power
    cdef double total[TOGETHER]
    cdef Py_ssize_t i, j, row, some
    for i in range(k):
        top = a[i] * log(a[i] / (a[i] + b[i])) + b[i] * log(b[i] / (a[i] + b[i]))
        for j in range(g):
            power = a[i] * log_x[j] + b[i] * log_1_x[j] - top
            density[i * g + j] = expf(<float> power) if power > LEAST_POWER else 0
    i = 0
    while i < k:
        some = TOGETHER if k - i > TOGETHER else k - i
        _areas(half, density + i * g, below + i * g, some, g, total)
        for row in range(some):
            if total[row] <= 0:
                continue
            for j in range((i + row) * g, (i + row + 1) * g):
                density[j] /= total[row]
                below[j] /= total[row]
        i += some


cdef void _areas(
    const double *half, const double *y, double *upto, Py_ssize_t k, Py_ssize_t g, double *total
) noexcept nogil:
    """Write the area under each row of ``y``, by trapezoids; and those up to each point, if they are asked for."""
    cdef Py_ssize_t i = 0, j
    while i + TOGETHER <= k:
        _four(half, y + i * g, NULL if upto == NULL else upto + i * g, g, total + i)
        i += TOGETHER
    while i < k:
        total[i] = 0
        if upto != NULL:
            upto[i * g] = 0
        for j in range(1, g):
            total[i] += (y[i * g + j] + y[i * g + j - 1]) * half[j]
            if upto != NULL:
                upto[i * g + j] = total[i]
        i += 1


cdef inline void _four(const double *half, const double *y, double *upto, Py_ssize_t g, double *total) noexcept nogil:
    """Write the areas under ``TOGETHER`` rows."""
    cdef const double *y1 = y + g
    cdef const double *y2 = y + 2 * g
    cdef const double *y3 = y + 3 * g
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    cdef Py_ssize_t j
    if upto == NULL:
        for j in range(1, g):
            s0 += (y[j] + y[j - 1]) * half[j]
            s1 += (y1[j] + y1[j - 1]) * half[j]
            s2 += (y2[j] + y2[j - 1]) * half[j]
            s3 += (y3[j] + y3[j - 1]) * half[j]
    else:
        upto[0] = upto[g] = upto[2 * g] = upto[3 * g] = 0
        for j in range(1, g):
            s0 += (y[j] + y[j - 1]) * half[j]
            s1 += (y1[j] + y1[j - 1]) * half[j]
            s2 += (y2[j] + y2[j - 1]) * half[j]
            s3 += (y3[j] + y3[j - 1]) * half[j]
            upto[j] = s0
            upto[g + j] = s1
            upto[2 * g + j] = s2
            upto[3 * g + j] = s3
    total[0], total[1], total[2], total[3] = s0, s1, s2, s3
