# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Steps of one objective of the online model, one example after another, compiled."""

from libc.math cimport exp, sqrt
from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    BLOCK = 256  # largest, see models/learning/early_join.py


cdef inline double _sigmoid(double z) noexcept nogil:
    z = -30 if z < -30 else (30 if z > 30 else z)  # beyond, exp may overflow
    return 1 / (1 + exp(-z))


def learn_linear(
    const double[:, ::1] x not None,
    const uint32_t[:, ::1] slots not None,
    const uint8_t[::1] clicked not None,
    double[::1] weights not None,
    double[::1] squares not None,
    double[::1] table not None,
    double[::1] table_squares not None,
    double step,
    double table_step,
    bint early,
):
    cdef Py_ssize_t n = x.shape[0], width = x.shape[1], terms = slots.shape[1], i, j
    cdef Py_ssize_t first = 0, last
    cdef double z, slope, g, block
    cdef double[BLOCK] p
    if not (weights.shape[0] == squares.shape[0] == width + 1):
        raise ValueError("weights and squares must have one number for each column, and one for the bias")
    if not (slots.shape[0] == clicked.shape[0] == n and table.shape[0] == table_squares.shape[0]):
        raise ValueError("arrays differ in length")
    for i in range(n):
        for j in range(terms):
            if slots[i, j] >= <uint32_t>table.shape[0]:
                raise ValueError("a slot is outside of the table")
    with nogil:
        while first < n:
            # A long block overshoots while steps are large, and the more the larger slopes are: p is about
            # what the bias says.
            z = _sigmoid(weights[width])
            block = min(4 * sqrt(squares[width]), 8 / (z * (1 - z)))
            last = first + (1 if not early or not block >= 1 else <Py_ssize_t>block if block < BLOCK else BLOCK)
            last = min(last, n)
            for i in range(first, last):
                z = weights[width]
                for j in range(width):
                    z += weights[j] * x[i, j]
                for j in range(terms):
                    z += table[slots[i, j]]
                p[i - first] = _sigmoid(z)
            for i in range(first, last):
                slope = p[i - first] - clicked[i]
                if early:
                    slope = (-1 if clicked[i] else p[i - first]) * (1 - p[i - first] * p[i - first])
                for j in range(width):
                    g = slope * x[i, j]
                    squares[j] += g * g
                    weights[j] -= step * g / sqrt(squares[j])
                squares[width] += slope * slope
                weights[width] -= step * slope / sqrt(squares[width])
                for j in range(terms):
                    table_squares[slots[i, j]] += slope * slope
                    table[slots[i, j]] -= table_step * slope
            first = last
