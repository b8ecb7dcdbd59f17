# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Where the parts of a record are, and the numbers and headers in it: for compiled loops."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    # rows of the array of fields
    ROW_OFFSET, ROW_TIMESTAMP, ROW_KIND, ROW_KEY, ROW_KEY_SIZE, ROW_VALUE, ROW_VALUE_SIZE, ROW_HEADERS, ROW_N_HEADERS, N_FIELDS

cdef int check_fields(const int64_t[:, :] fields, Py_ssize_t size) except -1


cdef inline bint read_number(const uint8_t *text, Py_ssize_t end, Py_ssize_t *at, int64_t *out) noexcept nogil:
    """Read a zigzag-coded number of at most nine bytes before ``end``; return whether there is one."""
    cdef uint64_t raw = 0
    cdef int shift = 0
    cdef uint8_t byte
    while shift < 63 and at[0] < end:
        byte = text[at[0]]
        at[0] += 1
        raw |= <uint64_t> (byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = <int64_t> (raw >> 1) ^ -<int64_t> (raw & 1)
            return True
        shift += 7
    return False


cdef inline bint read_piece(
    const uint8_t *text, Py_ssize_t end, Py_ssize_t *at, int64_t *start, int64_t *size
) noexcept nogil:
    """Read a size and that many bytes before ``end``; the size of null is -1. Return whether they are there."""
    if not read_number(text, end, at, size) or size[0] < -1:
        return False
    start[0] = at[0]
    if size[0] > 0:
        if size[0] > end - at[0]:
            return False
        at[0] += size[0]
    return True


cdef inline bint read_header(
    const uint8_t *text, Py_ssize_t end, Py_ssize_t *at, int64_t *name, int64_t *n_name, int64_t *value,
    int64_t *n_value,
) noexcept nogil:
    """Read a header whose name is ASCII; return whether there is one."""
    cdef Py_ssize_t i
    if not read_piece(text, end, at, name, n_name) or n_name[0] < 0:
        return False
    for i in range(name[0], name[0] + n_name[0]):
        if text[i] >= 0x80:
            return False
    return read_piece(text, end, at, value, n_value)
