# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows put in place in a table, in bulk, compiled: rows that were given, and blank ones."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from headrace.streams.tables.row_bytes cimport RowBytes, rows_inside
from headrace.streams.tables.row_format cimport is_packed_row, unpack_row

import numpy as np


cdef class GivenRows:
    """The given rows that have the right size and layout and a key; rows may be packed."""

    cdef object _given  # owns the memory that ``starts`` points to
    cdef char **starts
    cdef Py_ssize_t *lengths
    cdef Py_ssize_t n, size
    cdef readonly object keys
    cdef readonly Py_ssize_t refused

    def __cinit__(self, given, Py_ssize_t size, Py_ssize_t key_at, Py_ssize_t layout_at, uint32_t layout):
        cdef Py_ssize_t n = len(given)
        if not (0 <= key_at <= size - 8 and layout_at <= size - 4):
            raise ValueError("key and layout lie inside a row")
        if key_at & 7 or layout_at & 3 and layout_at >= 0:
            raise ValueError("key and layout lie at multiples of their size")
        self.size = size
        self.starts = <char **> malloc(max(n, 1) * sizeof(char *))
        self.lengths = <Py_ssize_t *> malloc(max(n, 1) * sizeof(Py_ssize_t))
        if self.starts == NULL or self.lengths == NULL:
            raise MemoryError()
        if hasattr(given, "dtype"):
            self._point_into_array(given)
        else:
            self._point_to_bytes(tuple(given))
        keys = np.empty(n, np.uint64)
        self._keep_sound(keys, n, key_at, layout_at, layout)
        self.keys, self.refused = keys[: self.n], n - self.n

    cdef int _point_into_array(self, given) except -1:
        cdef RowBytes array = RowBytes(given, False)
        cdef Py_ssize_t i
        if array.size != self.size:
            raise ValueError(f"rows of {self.size} bytes are wanted, not of {array.size}")
        self._given = array
        for i in range(array.n):
            self.starts[i], self.lengths[i] = array.start + i * array.step, self.size
        return 0

    cdef int _point_to_bytes(self, tuple given) except -1:
        cdef Py_ssize_t i
        self._given = given
        for i, one in enumerate(given):
            self.starts[i], self.lengths[i] = PyBytes_AS_STRING(<bytes?> one), PyBytes_GET_SIZE(one)
        return 0

    cdef int _keep_sound(self, uint64_t[::1] keys, Py_ssize_t n, Py_ssize_t key_at, Py_ssize_t layout_at,
                         uint32_t layout) except -1:
        """Move the rows of this size and layout that have a key to the front, and note their keys."""
        cdef Py_ssize_t i, length, layout_word = max(layout_at, 0) & ~7
        cdef char *start
        cdef uint64_t key, word
        with nogil:  # recovery applies rows in one thread while another one parses the next ones
            for i in range(n):
                start, length = self.starts[i], self.lengths[i]
                if not is_packed_row(<uint8_t *> start, length, self.size, key_at, &key, layout_word, &word):
                    continue
                if layout_at >= 0 and <uint32_t> (word >> 8 * (layout_at & 7)) != layout:
                    continue
                if key:  # no row has the key 0
                    self.starts[self.n], self.lengths[self.n], keys[self.n] = start, length, key
                    self.n += 1
        return 0

    def __dealloc__(self):
        free(self.starts)
        free(self.lengths)

    def put(self, data, const int64_t[::1] rows not None, const int64_t[::1] new not None,
            const int64_t[::1] order_at not None):
        cdef RowBytes to = RowBytes(data, True)
        cdef Py_ssize_t i, made = 0, put = 0
        cdef char *old
        cdef char *row
        cdef char *room
        cdef bint newer
        if rows.shape[0] != self.n or to.size != self.size:
            raise ValueError("these are not the rows of this data")
        rows_inside(rows, to.n)
        room = <char *> malloc(self.size)
        if room == NULL:
            raise MemoryError()
        with nogil:
            for i in range(self.n):
                old = to.start + rows[i] * to.step
                row = self.starts[i]
                if self.lengths[i] != self.size:
                    unpack_row(<uint8_t *> row, self.lengths[i], room, self.size)
                    row = room
                if made < new.shape[0] and new[made] == i:
                    made = made + 1
                    newer = True
                else:
                    newer = not _before(row, old, order_at)
                if newer:
                    memcpy(old, row, self.size)
                    put += 1
        free(room)
        return put


cdef bint _before(char *a, char *b, const int64_t[::1] order_at) noexcept nogil:
    """Return whether row ``a`` is older than ``b``: the first of the int64 fields that differs decides."""
    cdef Py_ssize_t k
    cdef int64_t x, y
    for k in range(order_at.shape[0]):
        memcpy(&x, a + order_at[k], 8)
        memcpy(&y, b + order_at[k], 8)
        if x != y:
            return x < y
    return False


def blank_rows(data, blank, const int64_t[::1] rows not None, Py_ssize_t key_at,
               const uint64_t[::1] keys not None):
    cdef RowBytes to = RowBytes(data, True)
    cdef RowBytes like = RowBytes(blank, False)
    cdef Py_ssize_t i
    cdef char *row
    if like.n != 1 or like.size != to.size or keys.shape[0] != rows.shape[0] or not 0 <= key_at <= to.size - 8:
        raise ValueError("one blank row, and a key for every row")
    rows_inside(rows, to.n)
    for i in range(rows.shape[0]):
        row = to.start + rows[i] * to.step
        memcpy(row, like.start, to.size)
        memcpy(row + key_at, &keys[i], 8)
