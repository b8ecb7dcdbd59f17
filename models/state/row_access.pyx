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


def distinct(const int64_t[::1] rows, Py_ssize_t n_rows):
    """Return each row once, in the order of their first mention."""
    cdef Py_ssize_t i, n = rows.shape[0], found = 0
    cdef uint64_t bit
    rows_inside(rows, n_rows)
    out = np.empty(n, np.int64)
    cdef int64_t[::1] to = out
    cdef uint64_t *seen = <uint64_t *>calloc(n_rows // 64 + 1, 8)
    if seen == NULL:
        raise MemoryError
    for i in range(n):
        bit = <uint64_t>1 << (rows[i] & 63)
        if not seen[rows[i] >> 6] & bit:
            seen[rows[i] >> 6] |= bit
            to[found] = rows[i]
            found += 1
    free(seen)
    return out[:found]
