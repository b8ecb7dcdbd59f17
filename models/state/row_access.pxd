# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How compiled loops reach the rows of a table.

Rows are numpy structured arrays. The offsets of fields are read from the dtype once, when the object with the
loop is made. Most of the time is spent on waiting for rows from memory, so the rows of the next events are
prefetched.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define HR_PREFETCH(p) __builtin_prefetch((p), 1)
    #else
    #define HR_PREFETCH(p) ((void)(p))
    #endif
    """
    void prefetch "HR_PREFETCH"(const void *p) noexcept nogil

cdef enum:
    AHEAD = 8  # events between a prefetch and its use
    LINE = 64  # bytes fetched at once

cdef ptrdiff_t field_at(dtype, name, expected, shape=*) except -1
cdef unsigned char[::1] bytes_of(data, Py_ssize_t size)
cdef int rows_of_events(const int64_t[::1] rows, Py_ssize_t n_rows, Py_ssize_t n) except -1
cdef int chosen_events(
    const int64_t[::1] at, Py_ssize_t n, Py_ssize_t n_events, const int64_t[::1] offsets
) except -1
cdef uint64_t *new_row_bits(Py_ssize_t n_rows) except NULL


cdef inline bint first_mention(uint64_t *bits, int64_t row) noexcept nogil:
    """Set the bit of a row; return whether it was not set before."""
    cdef uint64_t bit = <uint64_t>1 << (row & 63), before = bits[row >> 6]
    bits[row >> 6] = before | bit
    return not before & bit
