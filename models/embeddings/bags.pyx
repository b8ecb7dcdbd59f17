# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Weighted sums of rows of a matrix, in groups (bags), and their gradients, compiled."""

from libc.stdint cimport int64_t

ctypedef fused real:
    float
    double


cdef int _check(const int64_t[::1] members, const int64_t[::1] bounds, Py_ssize_t weights, Py_ssize_t bags,
                Py_ssize_t rows, Py_ssize_t width, Py_ssize_t other) except -1:
    """Raise ``ValueError`` unless every bag has members, and every member is a row."""
    cdef Py_ssize_t i
    if bounds.shape[0] != bags + 1 or bounds[0] != 0 or bounds[bags] != members.shape[0]:
        raise ValueError("the bounds are not those of the bags")
    if weights != members.shape[0] or width != other:
        raise ValueError("the shapes do not fit")
    for i in range(bags):
        if bounds[i + 1] < bounds[i]:
            raise ValueError("the bounds of the bags do not grow")
    for i in range(members.shape[0]):
        if members[i] < 0 or members[i] >= rows:
            raise ValueError(f"there is no row {members[i]}")
    return 0


def add_bags(const real[:, ::1] rows, const int64_t[::1] members, const real[::1] weights,
             const int64_t[::1] bounds, real[:, ::1] out):
    cdef Py_ssize_t i, j, k, width = rows.shape[1]
    cdef const real *row
    cdef real *total
    cdef real w
    _check(members, bounds, weights.shape[0], out.shape[0], rows.shape[0], width, out.shape[1])
    for i in range(out.shape[0]):
        total = &out[i, 0]
        for j in range(bounds[i], bounds[i + 1]):
            row, w = &rows[members[j], 0], weights[j]
            for k in range(width):
                total[k] += w * row[k]


def spread_bags(const real[:, ::1] grads, const int64_t[::1] members, const real[::1] weights,
                const int64_t[::1] bounds, real[:, ::1] out):
    cdef Py_ssize_t i, j, k, width = grads.shape[1]
    cdef const real *grad
    cdef real *row
    cdef real w
    _check(members, bounds, weights.shape[0], grads.shape[0], out.shape[0], width, out.shape[1])
    for i in range(grads.shape[0]):
        grad = &grads[i, 0]
        for j in range(bounds[i], bounds[i + 1]):
            row, w = &out[members[j], 0], weights[j]
            for k in range(width):
                row[k] += w * grad[k]


def dot_bags(const real[:, ::1] grads, const real[:, ::1] rows, const int64_t[::1] members,
             const int64_t[::1] bounds, real[::1] out):
    cdef Py_ssize_t i, j, k, width = rows.shape[1]
    cdef const real *grad
    cdef const real *row
    cdef real total
    _check(members, bounds, out.shape[0], grads.shape[0], rows.shape[0], width, grads.shape[1])
    for i in range(grads.shape[0]):
        grad = &grads[i, 0]
        for j in range(bounds[i], bounds[i + 1]):
            row, total = &rows[members[j], 0], 0
            for k in range(width):
                total += grad[k] * row[k]
            out[j] = total
