# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How compiled loops reach the rows of a table; the rows a batch touched."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from headrace.streams.tables.row_bytes cimport rows_inside

import numpy as np


cdef ptrdiff_t field_at(dtype, name, expected, shape=()) except -1:
    """Return the offset of a field after checking its type: a wrong type would overwrite other fields."""
    if dtype.names is None or name not in dtype.fields:
        raise ValueError(f"a row needs the field {name!r}")
    field, offset = dtype.fields[name][:2]
    if field.base != np.dtype(expected) or field.shape != shape:
        raise ValueError(f"field {name!r} is {field}, {np.dtype((expected, shape))} is expected")
    if offset % field.base.itemsize:
        raise ValueError(f"field {name!r} lies at {offset}, which is not a multiple of its size")
    return offset


cdef unsigned char[::1] bytes_of(data, Py_ssize_t size):
    """Return the bytes of a structured array after checking that its rows are of ``size`` bytes."""
    if data.dtype.itemsize != size or not data.flags.c_contiguous:
        raise ValueError(f"rows of {size} bytes, one after the other, are expected")
    return data.view(np.uint8)


cdef int rows_of_events(const int64_t[::1] rows, Py_ssize_t n_rows, Py_ssize_t n) except -1:
    """Raise unless each of ``n`` events has a row, and every row is in a table of ``n_rows``."""
    if rows.shape[0] != n:
        raise ValueError(f"{rows.shape[0]} rows for {n} events")
    return rows_inside(rows, n_rows)


cdef int chosen_events(
    const int64_t[::1] at, Py_ssize_t n, Py_ssize_t n_events, const int64_t[::1] offsets
) except -1:
    """Raise unless ``at`` chooses ``n`` of the events, in order, and the offsets of those do not fall."""
    cdef Py_ssize_t i
    if at.shape[0] != n or offsets.shape[0] != n_events:
        raise ValueError(f"{n} rows, {at.shape[0]} chosen; {n_events} events, {offsets.shape[0]} offsets")
    for i in range(n):
        if not (at[i - 1] if i else -1) < at[i] < n_events:
            raise ValueError(f"events are chosen in order, from {n_events}")
        if i and offsets[at[i]] < offsets[at[i - 1]]:
            raise ValueError("offsets do not fall")
    return 0


cdef RowBits _spare  # kept for the next batch: to clear a bit for every row of a large table takes long


cdef RowBits borrow_row_bits(Py_ssize_t n_rows) except *:
    """Return a bit for every row, none set; ``return_row_bits`` takes them back."""
    global _spare
    cdef RowBits bits = _spare
    cdef Py_ssize_t needed = n_rows // 64 + 1
    _spare.words, _spare.n = NULL, 0
    if bits.n < needed:
        free(bits.words)
        bits.words, bits.n = <uint64_t *>calloc(needed, 8), needed
        if bits.words == NULL:
            raise MemoryError
    return bits


cdef void return_row_bits(RowBits bits, const int64_t[::1] rows, Py_ssize_t n) noexcept:
    """Take bits back after clearing those set: of the first ``n`` of ``rows``."""
    global _spare
    cdef Py_ssize_t i
    for i in range(n):
        bits.words[rows[i] >> 6] = 0
    if _spare.words == NULL:
        _spare = bits
    else:  # two had been borrowed
        free(bits.words)


def distinct(const int64_t[::1] rows, Py_ssize_t n_rows):
    """Return each row once, in the order of their first mention."""
    cdef Py_ssize_t i, found = 0
    rows_inside(rows, n_rows)
    out = np.empty(rows.shape[0], np.int64)
    cdef int64_t[::1] to = out
    cdef RowBits seen = borrow_row_bits(n_rows)
    for i in range(rows.shape[0]):
        if first_mention(seen, rows[i]):
            to[found] = rows[i]
            found += 1
    return_row_bits(seen, to, found)
    return out[:found]
