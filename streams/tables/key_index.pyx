# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Row numbers of keys: a hash table, compiled."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from headrace.streams.hashing cimport MIN_BITS, MIN_SLOTS, home_of

import numpy as np

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define headrace_fetch_slot(p) __builtin_prefetch(p)
    #else
    #define headrace_fetch_slot(p)
    #endif
    """
    void _fetch "headrace_fetch_slot"(const void *p) noexcept nogil

cdef enum:
    AHEAD = 16  # keys whose slots are fetched from memory while earlier ones are looked at


cdef packed struct Slot:
    uint64_t key
    int32_t row  # + 1; 0 is an empty slot


cdef class KeyIndex:
    """Row number of each 64-bit key, in a hash table with open addressing; free rows are used again.

    A key is in the first slot that was free, counted from its home. Dropping a key moves the keys behind it
    back, so there are no tombstones, and searches stay short after any number of inserts and drops.
    """

    cdef Slot *slots
    cdef int32_t *spare  # rows of dropped keys
    cdef size_t size
    cdef Py_ssize_t count, n_spare, spare_size
    cdef int shift
    cdef readonly Py_ssize_t used

    def __cinit__(self, Py_ssize_t capacity=0):
        self.size, self.shift = MIN_SLOTS, 64 - MIN_BITS
        while self.size * 3 < <size_t> capacity * 4:
            self.size, self.shift = self.size * 2, self.shift - 1
        self.slots = <Slot *> calloc(self.size, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)
        free(self.spare)

    def __len__(self):
        return self.count

    @property
    def nbytes(self):
        return self.size * sizeof(Slot) + self.spare_size * sizeof(int32_t)

    cdef inline size_t _search(self, uint64_t key) noexcept:
        """Return the slot of ``key``, or the free one where it belongs."""
        cdef size_t at = home_of(key, self.shift)
        while self.slots[at].row and self.slots[at].key != key:
            at = (at + 1) & (self.size - 1)
        return at

    cdef int _grow(self) except -1:
        cdef Slot *old = self.slots
        cdef Slot *new = <Slot *> calloc(self.size * 2, sizeof(Slot))
        cdef size_t i, n = self.size
        if new == NULL:
            raise MemoryError()
        self.slots, self.size, self.shift = new, n * 2, self.shift - 1
        for i in range(n):
            if old[i].row:
                new[self._search(old[i].key)] = old[i]
        free(old)
        return 0

    cdef void _remove(self, size_t hole) noexcept:
        """Free a slot, and move back the keys that a search would no longer find behind it."""
        cdef size_t mask = self.size - 1, i = hole, home
        while True:
            i = (i + 1) & mask
            if not self.slots[i].row:
                break
            home = home_of(self.slots[i].key, self.shift)
            if ((i - home) & mask) >= ((i - hole) & mask):  # its home is not between the hole and i
                self.slots[hole] = self.slots[i]
                hole = i
        self.slots[hole].row = 0

    def get(self, uint64_t key):
        return self.slots[self._search(key)].row - 1

    def find(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, n = keys.shape[0]
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        for i in range(n):
            if i + AHEAD < n:
                _fetch(&self.slots[home_of(keys[i + AHEAD], self.shift)])
            rows[i] = self.slots[self._search(keys[i])].row - 1
        return out

    def take(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, made = 0, n = keys.shape[0]
        cdef size_t at
        cdef int32_t row
        out, new = np.empty(n, np.int64), np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        cdef int64_t[::1] where = new
        for i in range(n):
            at = self._search(keys[i])
            if not self.slots[at].row:
                if <size_t> (self.count + 1) * 4 > self.size * 3:
                    self._grow()
                    at = self._search(keys[i])
                if self.n_spare:
                    self.n_spare -= 1
                    row = self.spare[self.n_spare]
                elif self.used < 0x7FFFFFFE:
                    row = <int32_t> self.used
                    self.used += 1
                else:
                    raise OverflowError("a table holds at most 2**31 - 2 rows")
                self.slots[at].key, self.slots[at].row = keys[i], row + 1
                self.count += 1
                where[made] = i
                made += 1
            rows[i] = self.slots[at].row - 1
        return out, new[:made]

    def drop(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, gone = 0, n = keys.shape[0]
        cdef size_t at
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        cdef int32_t *spare
        if self.n_spare + n > self.spare_size:
            spare = <int32_t *> realloc(self.spare, (self.n_spare + n) * 2 * sizeof(int32_t))
            if spare == NULL:
                raise MemoryError()
            self.spare, self.spare_size = spare, (self.n_spare + n) * 2
        for i in range(n):
            at = self._search(keys[i])
            if self.slots[at].row:
                rows[gone] = self.slots[at].row - 1
                self.spare[self.n_spare] = self.slots[at].row - 1
                self.n_spare += 1
                gone += 1
                self.count -= 1
                self._remove(at)
        return out[:gone]

    def items(self):
        cdef size_t i
        keys, there = np.zeros(self.used, np.uint64), np.zeros(self.used, np.uint8)
        cdef uint64_t[::1] k = keys
        cdef uint8_t[::1] t = there
        for i in range(self.size):
            if self.slots[i].row:
                k[self.slots[i].row - 1] = self.slots[i].key
                t[self.slots[i].row - 1] = 1
        rows = np.flatnonzero(there)
        return keys[rows], rows
