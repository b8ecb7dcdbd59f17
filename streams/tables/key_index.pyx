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
    MOVED = 8  # slots of a table that was full that a call moves, and each new key
    AT_ONCE = 131072  # a full table of so many slots or fewer is moved at once, in half a millisecond


cdef packed struct Slot:
    uint64_t key
    int32_t row  # + 1; 0 is an empty slot


cdef class KeyIndex:
    """Row number of each 64-bit key, in a hash table with open addressing; free rows are used again.

    A key is in the first slot that was free, counted from its home. Dropping a key moves the keys behind it
    back, so there are no tombstones, and searches stay short after any number of inserts and drops.

    A large table that is full is not copied at once: a second one takes all new keys, and every later call
    moves some of the old ones there, whole runs of slots in use. So each table is in order at any time, no call
    pays for all the keys there are, and a search that finds nothing in one table looks into the other.
    """

    cdef Slot *slots
    cdef Slot *old  # the table that is being moved; NULL: none
    cdef int32_t *spare  # rows of dropped keys
    cdef size_t size, old_size
    cdef size_t at, left  # the slot of the old table to move next, and how many slots are left
    cdef Py_ssize_t count, n_spare, spare_size
    cdef int shift
    cdef size_t at_once
    cdef readonly Py_ssize_t used

    def __cinit__(self, Py_ssize_t capacity=0, size_t at_once=AT_ONCE):
        self.at_once = at_once
        self.size, self.shift = MIN_SLOTS, 64 - MIN_BITS
        while self.size * 3 < <size_t> capacity * 4:
            self.size, self.shift = self.size * 2, self.shift - 1
        self.slots = <Slot *> calloc(self.size, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)
        free(self.old)
        free(self.spare)

    def __len__(self):
        return self.count

    @property
    def nbytes(self):
        return (self.size + self.old_size) * sizeof(Slot) + self.spare_size * sizeof(int32_t)

    cdef inline size_t _search(self, uint64_t key) noexcept:
        """Return the slot of ``key`` in the newest table, or the free one where it belongs."""
        cdef size_t at = home_of(key, self.shift)
        while self.slots[at].row and self.slots[at].key != key:
            at = (at + 1) & (self.size - 1)
        return at

    cdef inline size_t _search_old(self, uint64_t key) noexcept:
        """Return the slot of ``key`` in the table that is being moved, or a free one."""
        cdef size_t at = home_of(key, self.shift + 1)
        while self.old[at].row and self.old[at].key != key:
            at = (at + 1) & (self.old_size - 1)
        return at

    cdef inline int32_t _row(self, uint64_t key) noexcept:
        """Return the row of ``key`` + 1, 0 where there is none."""
        cdef int32_t row = self.slots[self._search(key)].row
        if row == 0 and self.old != NULL:
            row = self.old[self._search_old(key)].row
        return row

    cdef int _grow(self) except -1:
        """Begin a table of twice the size."""
        self._move(self.left)  # nothing is left here: each key that came has moved more than two slots
        cdef Slot *new = <Slot *> calloc(self.size * 2, sizeof(Slot))
        if new == NULL:
            raise MemoryError()
        self.old, self.old_size = self.slots, self.size
        self.slots, self.size, self.shift = new, self.size * 2, self.shift - 1
        self.at, self.left = 0, self.old_size
        while self.old[self.at].row:  # begin behind a free slot, so behind a run; a quarter are free
            self.at += 1
        if self.old_size <= self.at_once:
            self._move(self.left)
        return 0

    cdef void _move(self, size_t most) noexcept:
        """Move the keys of the next ``most`` slots of the old table to the new one, and the rest of a run."""
        cdef Slot slot
        if self.old == NULL:
            return
        while self.left:
            slot = self.old[self.at]
            if slot.row:
                self.slots[self._search(slot.key)] = slot
                self.old[self.at].row = 0
            elif not most:
                return
            self.at = (self.at + 1) & (self.old_size - 1)
            self.left -= 1
            most -= most > 0
        free(self.old)
        self.old, self.old_size = NULL, 0

    cdef void _remove(self, Slot *slots, size_t size, int shift, size_t hole) noexcept:
        """Free a slot, and move back the keys that a search would no longer find behind it."""
        cdef size_t mask = size - 1, i = hole, home
        while True:
            i = (i + 1) & mask
            if not slots[i].row:
                break
            home = home_of(slots[i].key, shift)
            if ((i - home) & mask) >= ((i - hole) & mask):  # its home is not between the hole and i
                slots[hole] = slots[i]
                hole = i
        slots[hole].row = 0

    def get(self, uint64_t key):
        return self._row(key) - 1

    def find(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, n = keys.shape[0]
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        for i in range(n):
            if i + AHEAD < n:
                _fetch(&self.slots[home_of(keys[i + AHEAD], self.shift)])
                if self.old != NULL:
                    _fetch(&self.old[home_of(keys[i + AHEAD], self.shift + 1)])
            rows[i] = self._row(keys[i]) - 1
        return out

    def take(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, made = 0, n = keys.shape[0]
        cdef size_t at
        cdef int32_t row
        out, new = np.empty(n, np.int64), np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        cdef int64_t[::1] where = new
        self._move(MOVED)
        for i in range(n):
            at = self._search(keys[i])
            row = self.slots[at].row
            if row == 0 and self.old != NULL:
                row = self.old[self._search_old(keys[i])].row
            if row == 0:
                if <size_t> (self.count + 1) * 4 > self.size * 3:
                    self._grow()
                    at = self._search(keys[i])
                elif self.old != NULL:
                    self._move(MOVED)
                    at = self._search(keys[i])
                if self.n_spare:
                    self.n_spare -= 1
                    row = self.spare[self.n_spare] + 1
                elif self.used < 0x7FFFFFFE:
                    self.used += 1
                    row = <int32_t> self.used
                else:
                    raise OverflowError("a table holds at most 2**31 - 2 rows")
                self.slots[at].key, self.slots[at].row = keys[i], row
                self.count += 1
                where[made] = i
                made += 1
            rows[i] = row - 1
        return out, new[:made]

    def drop(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, gone = 0, n = keys.shape[0]
        cdef size_t at
        cdef int32_t row
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        cdef int32_t *spare
        if self.n_spare + n > self.spare_size:
            spare = <int32_t *> realloc(self.spare, (self.n_spare + n) * 2 * sizeof(int32_t))
            if spare == NULL:
                raise MemoryError()
            self.spare, self.spare_size = spare, (self.n_spare + n) * 2
        self._move(MOVED)
        for i in range(n):
            at = self._search(keys[i])
            row = self.slots[at].row
            if row:
                self._remove(self.slots, self.size, self.shift, at)
            elif self.old != NULL:
                at = self._search_old(keys[i])
                row = self.old[at].row
                if row:
                    self._remove(self.old, self.old_size, self.shift + 1, at)
            if row:
                rows[gone] = row - 1
                self.spare[self.n_spare] = row - 1
                self.n_spare += 1
                gone += 1
                self.count -= 1
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
        for i in range(self.old_size):
            if self.old[i].row:
                k[self.old[i].row - 1] = self.old[i].key
                t[self.old[i].row - 1] = 1
        rows = np.flatnonzero(there)
        return keys[rows], rows
