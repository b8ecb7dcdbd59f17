# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows of an array as packed bytes and back (``row_format.pxd``), in bulk, compiled."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from headrace.streams.tables.row_bytes cimport RowBytes, rows_inside
from headrace.streams.tables.row_format cimport is_packed_row, pack_row, unpack_row

import numpy as np

cdef enum:
    PACK_BYTES = 65536


def pack_rows(data, const int64_t[::1] rows not None):
    cdef RowBytes source = RowBytes(data, False)
    cdef Py_ssize_t i, size = source.size, n = rows.shape[0], used = 0, slack = size // 8 + 16
    cdef Py_ssize_t room = max(PACK_BYTES, size + slack), start = 0
    rows_inside(rows, source.n)
    pieces = []
    ends = np.zeros(n + 1, np.int64)
    cdef int64_t[::1] bounds = ends
    cdef uint8_t *to = <uint8_t *> malloc(room)  # small enough to stay in the cache, and in the process
    if to == NULL:
        raise MemoryError()
    try:
        for i in range(n):
            if used - start + size + slack > room:
                pieces.append(PyBytes_FromStringAndSize(<char *> to, used - start))
                start = used
            used += pack_row(source.start + rows[i] * source.step, size, to + (used - start))
            bounds[i + 1] = used
        pieces.append(PyBytes_FromStringAndSize(<char *> to, used - start))
    finally:
        free(to)
    return b"".join(pieces), ends


def unpack_rows(given, data):
    cdef RowBytes to = RowBytes(data, True)
    cdef Py_ssize_t i, length
    cdef uint64_t a, b
    cdef const uint8_t *start
    if len(given) != to.n:
        raise ValueError("a row for each of those given")
    sound = np.zeros(to.n, np.bool_)
    cdef uint8_t[::1] fine = sound.view(np.uint8)
    for i, one in enumerate(given):
        if one is None:
            continue
        start, length = <const uint8_t *> PyBytes_AS_STRING(<bytes?> one), PyBytes_GET_SIZE(one)
        if is_packed_row(start, length, to.size, -1, &a, -1, &b):
            unpack_row(start, length, to.start + i * to.step, to.size)
            fine[i] = True
    return sound
