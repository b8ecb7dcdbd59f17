# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Copies of rows that lie far apart in memory, or of a field of them, compiled."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define headrace_prefetch(p) __builtin_prefetch(p)
    #else
    #define headrace_prefetch(p)
    #endif
    """
    void _prefetch "headrace_prefetch"(const void *p) noexcept nogil

cdef enum:
    AHEAD = 1024  # bytes that are fetched while earlier rows are copied


def bytes_of_rows(data, const int64_t[::1] rows not None, Py_ssize_t at, Py_ssize_t size):
    cdef RowBytes source = RowBytes(data, False)
    cdef Py_ssize_t i, j, n = rows.shape[0], ahead = max(<Py_ssize_t> 2, AHEAD // max(size, <Py_ssize_t> 1))
    cdef char *row
    if at < 0 or size < 0 or at + size > source.size:
        raise ValueError(f"bytes {at} to {at + size} of rows of {source.size}")
    for i in range(n):
        if rows[i] < -1 or rows[i] >= source.n:
            raise IndexError(f"row {rows[i]} of {source.n}")
    out = np.empty((n, size), np.uint8)
    cdef unsigned char[:, ::1] to = out
    if not n or not size:
        return out
    with nogil:
        for i in range(n):
            if i + ahead < n and rows[i + ahead] >= 0:
                row = source.start + rows[i + ahead] * source.step + at
                for j in range(0, size, 64):
                    _prefetch(row + j)
                _prefetch(row + size - 1)
            if rows[i] < 0:
                memset(&to[i, 0], 0, size)
            else:
                memcpy(&to[i, 0], source.start + rows[i] * source.step + at, size)
    return out
