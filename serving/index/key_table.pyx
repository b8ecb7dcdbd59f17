# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows of keys in a sorted file of slots, compiled: a table over the top bits says where to look."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

import numpy as np

cdef packed struct Slot:
    uint64_t key
    uint32_t row


cdef class KeyTable:
    """Finds keys in sorted slots."""

    cdef const Slot[::1] slots
    cdef const uint32_t[::1] table
    cdef int shift

    def __init__(self, slots, table, int bits):
        self.slots, self.table, self.shift = slots, table, 64 - bits
        if not 1 <= bits <= 32 or len(table) != (1 << bits) + 1:
            raise ValueError(f"a table over {bits} bits has {len(table)} entries")

    def find(self, keys):
        cdef const uint64_t[::1] wanted = np.ascontiguousarray(keys, np.uint64)
        cdef Py_ssize_t i, n = wanted.shape[0]
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        with nogil:
            for i in range(n):
                rows[i] = self._find(wanted[i])
        return out

    cdef inline int64_t _find(self, uint64_t key) noexcept nogil:
        """Return the row of a key, -1 where there is none. Wrong files find nothing, or a wrong row that exists."""
        cdef uint64_t prefix = key >> self.shift
        cdef Py_ssize_t n = self.slots.shape[0], at = self.table[prefix], end = min(<Py_ssize_t>self.table[prefix + 1], n)
        while at < end and self.slots[at].key < key:
            at += 1
        if at < end and self.slots[at].key == key and self.slots[at].row < n:
            return self.slots[at].row
        return -1
