# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows of keys in a sorted file of slots, compiled: a table over the top bits says where to look."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

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
    AHEAD = 8  # keys whose slots are fetched while earlier ones are looked for; the table's entries twice as early

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
                self._fetch(wanted, i)
                rows[i] = self._find(wanted[i])
        return out

    def find_others(self, keys, int64_t[::1] rows not None, int64_t shift, const uint8_t[::1] hidden not None):
        cdef const uint64_t[::1] wanted = np.ascontiguousarray(keys, np.uint64)
        cdef Py_ssize_t i, n = wanted.shape[0]
        cdef int64_t row
        if rows.shape[0] != n or hidden.shape[0] * 8 < self.slots.shape[0]:
            raise ValueError(f"{n} keys, {rows.shape[0]} rows; {self.slots.shape[0]} slots, {hidden.shape[0]} bytes of bits")
        with nogil:
            for i in range(n):
                self._fetch(wanted, i)
                if rows[i] >= 0:
                    rows[i] += shift
                    continue
                row = self._find(wanted[i])
                rows[i] = -1 if row >= 0 and hidden[row >> 3] >> (row & 7) & 1 else row

    cdef inline void _fetch(self, const uint64_t[::1] wanted, Py_ssize_t i) noexcept nogil:
        """Fetch what ``_find`` reads of keys further on."""
        cdef Py_ssize_t n = wanted.shape[0]
        if i + 2 * AHEAD < n:
            _prefetch(&self.table[wanted[i + 2 * AHEAD] >> self.shift])
        if i + AHEAD < n:
            _prefetch(&self.slots[0] + self.table[wanted[i + AHEAD] >> self.shift])

    cdef inline int64_t _find(self, uint64_t key) noexcept nogil:
        """Return the row of a key, -1 where there is none. Wrong files find nothing, or a wrong row that exists."""
        cdef uint64_t prefix = key >> self.shift
        cdef Py_ssize_t n = self.slots.shape[0], at = self.table[prefix], end = min(<Py_ssize_t>self.table[prefix + 1], n)
        while at < end and self.slots[at].key < key:
            at += 1
        if at < end and self.slots[at].key == key and self.slots[at].row < n:
            return self.slots[at].row
        return -1
