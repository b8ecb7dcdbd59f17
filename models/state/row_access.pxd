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


cdef struct RowBits:
    # A bit for every row of a table; none is set between two batches, so that none must be cleared for the next.
    uint64_t *words
    Py_ssize_t n


cdef RowBits borrow_row_bits(Py_ssize_t n_rows) except *
cdef void return_row_bits(RowBits bits, const int64_t[::1] rows, Py_ssize_t n) noexcept


cdef inline bint first_mention(RowBits bits, int64_t row) noexcept nogil:
    """Set the bit of a row; return whether it was not set before."""
    cdef uint64_t bit = <uint64_t>1 << (row & 63), before = bits.words[row >> 6]
    bits.words[row >> 6] = before | bit
    return not before & bit


cdef inline bint counts(
    RowBits counting, int64_t number, int64_t *row_offset, int64_t offset, int64_t *changed, Py_ssize_t *found
) noexcept nogil:
    """Return whether a row counts an event of the record at ``offset``, and note it if it does.

    It does when it reflects no record so late, and then all that follow in the batch, of the same record too:
    its bit is set, and its number added to ``changed``.
    """
    if offset > row_offset[0]:
        row_offset[0] = offset
        if first_mention(counting, number):
            changed[found[0]] = number
            found[0] += 1
        return True
    return counting.words[number >> 6] >> (number & 63) & 1
