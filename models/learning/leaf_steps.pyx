# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Trees whose leaf values can move: which leaves rows fall into, and the steps of the values, compiled."""

from libc.math cimport exp, sqrt
from libc.stdint cimport int32_t, uint8_t, uint32_t

import numpy as np

cdef enum:
    BLOCK = 16  # rows that go down a tree side by side: the processor need not wait for any of them


cdef void _check(const float[:, ::1] x, const int32_t[:, ::1] nodes, const int32_t[::1] roots, const int32_t[::1] depths) except *:
    cdef Py_ssize_t i, m = nodes.shape[0]
    if nodes.shape[1] != 4 or roots.shape[0] != depths.shape[0]:
        raise ValueError("nodes must have 4 columns, and each root a depth")
    for i in range(m):
        if not (0 <= nodes[i, 0] < x.shape[1] and 0 <= nodes[i, 2] < m and 0 <= nodes[i, 3] < m):
            raise ValueError("a node reads a column, or leads to a node, that does not exist")
    for i in range(roots.shape[0]):
        if not 0 <= roots[i] < m:
            raise ValueError("a root does not exist")


cdef inline void _down(
    const float *x, Py_ssize_t width, Py_ssize_t rows, const int32_t *nodes, int32_t root, int32_t depth, int32_t *at
) noexcept nogil:
    """Write the node where each of at most ``BLOCK`` rows ends."""
    cdef Py_ssize_t r
    cdef int32_t d
    cdef const int32_t *node
    for r in range(rows):
        at[r] = root
    for d in range(depth):
        for r in range(rows):
            node = nodes + 4 * at[r]
            at[r] = node[2 + (not x[r * width + node[0]] <= (<const float *>node)[1])]


def sums_of(
    const float[:, ::1] x not None,
    const int32_t[:, ::1] nodes not None,
    const int32_t[::1] roots not None,
    const int32_t[::1] depths not None,
    const double[::1] values not None,
):
    cdef Py_ssize_t n = x.shape[0], trees = roots.shape[0], start, rows, t, r
    cdef int32_t at[BLOCK]
    _check(x, nodes, roots, depths)
    if values.shape[0] != nodes.shape[0]:
        raise ValueError("there must be a value for each node")
    out = np.zeros(n)
    cdef double[::1] total = out
    with nogil:
        for start in range(0, n, 16):
            rows = min(<Py_ssize_t>BLOCK, n - start)
            for t in range(trees):
                _down(&x[start, 0], x.shape[1], rows, &nodes[0, 0], roots[t], depths[t], at)
                for r in range(rows):
                    total[start + r] += values[at[r]]
    return out


def leaves_of(
    const float[:, ::1] x not None,
    const int32_t[:, ::1] nodes not None,
    const int32_t[::1] roots not None,
    const int32_t[::1] depths not None,
):
    cdef Py_ssize_t n = x.shape[0], trees = roots.shape[0], start, rows, t, r
    cdef int32_t at[BLOCK]
    _check(x, nodes, roots, depths)
    out = np.empty((n, trees), np.int32)
    cdef int32_t[:, ::1] found = out
    with nogil:
        for start in range(0, n, 16):
            rows = min(<Py_ssize_t>BLOCK, n - start)
            for t in range(trees):
                _down(&x[start, 0], x.shape[1], rows, &nodes[0, 0], roots[t], depths[t], at)
                for r in range(rows):
                    found[start + r, t] = at[r]
    return out


def learn_leaves(
    const int32_t[:, ::1] leaves not None,
    const uint32_t[:, ::1] slots not None,
    const uint8_t[::1] clicked not None,
    const double[::1] values not None,
    double slope,
    double[::1] deltas not None,
    double[::1] squares not None,
    double[::1] table not None,
    double[::1] table_squares not None,
    double step,
    double table_step,
    double pull,
    double most,
    bint early,
):
    cdef Py_ssize_t n = leaves.shape[0], trees = leaves.shape[1], terms = slots.shape[1], i, t
    cdef double trained, moved, p, g, delta
    cdef int32_t leaf
    if not (slots.shape[0] == clicked.shape[0] == n and table.shape[0] == table_squares.shape[0]):
        raise ValueError("arrays differ in length")
    if not (values.shape[0] == deltas.shape[0] == squares.shape[0]):
        raise ValueError("values, deltas and squares differ in length")
    for i in range(n):
        for t in range(trees):
            if not 0 <= leaves[i, t] < values.shape[0]:
                raise ValueError("a leaf does not exist")
        for t in range(terms):
            if slots[i, t] >= <uint32_t>table.shape[0]:
                raise ValueError("a slot is outside of the table")
    out = np.empty((n, 2))
    cdef double[:, ::1] raw = out
    with nogil:
        for i in range(n):
            trained = moved = 0
            for t in range(trees):
                trained += values[leaves[i, t]]
                moved += deltas[leaves[i, t]]
            for t in range(terms):
                moved += table[slots[i, t]]
            raw[i, 0], raw[i, 1] = trained, trained + moved
            g = slope * (trained + moved)
            g = -30 if g < -30 else (30 if g > 30 else g)  # beyond, exp may overflow
            p = 1 / (1 + exp(-g))
            g = slope * (p - clicked[i])
            if early:
                g = slope * (-1 if clicked[i] else p) * (1 - p * p)
            for t in range(trees):
                leaf = leaves[i, t]
                squares[leaf] += g * g
                delta = deltas[leaf] - pull * deltas[leaf] - step * g / sqrt(squares[leaf])
                deltas[leaf] = -most if delta < -most else (most if delta > most else delta)
            for t in range(terms):
                table_squares[slots[i, t]] += g * g
                table[slots[i, t]] -= table_step * g
    return out
