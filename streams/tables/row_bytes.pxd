# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The bytes of rows, for compiled loops."""

from libc.stdint cimport int64_t


cdef class RowBytes:
    cdef Py_buffer view
    cdef char *start
    cdef Py_ssize_t step, n, size  # bytes from a row to the next, rows, bytes of a row
    cdef bint held


cdef inline int rows_inside(const int64_t[::1] rows, Py_ssize_t n) except -1:
    """Raise IndexError unless every row number is one of ``n`` rows."""
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if rows[i] < 0 or rows[i] >= n:
            raise IndexError(f"row {rows[i]} of {n}")
    return 0
