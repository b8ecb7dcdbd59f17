# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""When ids were last seen: a hash table, compiled."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from headrace.streams.hashing cimport MIN_BITS, MIN_SLOTS, home_of

import numpy as np

cdef struct Seen:
    uint64_t id
    int64_t at  # + 1; 0 is an empty slot


cdef class LastSeen:
    """When each 64-bit id was last seen. Ids not seen within the window are expired.

    A new id takes the slot of the first expired id that its search meets, so the table keeps its size at a
    steady rate of ids. The table is rebuilt when it is too full or too empty; then it is at most half full.
    """

    cdef Seen *slots
    cdef size_t size, count, made  # slots; slots in use; new ids since the last look at the size
    cdef int shift
    cdef int64_t window_ms

    def __cinit__(self, int64_t window_ms):
        self.window_ms, self.size, self.shift = window_ms, MIN_SLOTS, 64 - MIN_BITS
        self.slots = <Seen *> calloc(self.size, sizeof(Seen))
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    @property
    def nbytes(self):
        return self.size * sizeof(Seen)

    cdef int _tidy(self, int64_t oldest) except -1:
        """Rebuild the table if it is too full or too empty."""
        cdef Seen *old = self.slots
        cdef size_t i, at, n = self.size, left = 0, size = MIN_SLOTS
        cdef int shift = 64 - MIN_BITS
        self.made = 0
        for i in range(n):
            left += old[i].at > oldest
        while size < left * 2:
            size, shift = size * 2, shift - 1
        if self.count * 4 <= n * 3 and size * 4 > n:
            return 0
        cdef Seen *new = <Seen *> calloc(size, sizeof(Seen))
        if new == NULL:
            raise MemoryError()
        for i in range(n):
            if old[i].at > oldest:
                at = home_of(old[i].id, shift)
                while new[at].at:
                    at = (at + 1) & (size - 1)
                new[at] = old[i]
        self.slots, self.size, self.shift, self.count = new, size, shift, left
        free(old)
        return 0

    def fresh(self, const uint64_t[::1] ids not None, const int64_t[::1] times not None):
        cdef Py_ssize_t i, n = ids.shape[0]
        cdef size_t at, gone
        cdef int64_t oldest  # a stored time (+ 1) up to it is out of the window
        if times.shape[0] != n:
            raise ValueError(f"{n} ids and {times.shape[0]} times do not belong together")
        for i in range(n):
            if times[i] < 0:
                raise ValueError(f"stream time {times[i]} is negative")
        out = np.empty(n, np.bool_)
        cdef uint8_t[::1] new = out.view(np.uint8)
        for i in range(n):
            oldest = max(times[i] - self.window_ms, <int64_t> 0)
            at, gone = home_of(ids[i], self.shift), self.size
            while self.slots[at].at and self.slots[at].id != ids[i]:
                if gone == self.size and self.slots[at].at <= oldest:
                    gone = at
                at = (at + 1) & (self.size - 1)
            new[i] = self.slots[at].at <= oldest
            if not self.slots[at].at:
                if gone < self.size:
                    at = gone
                else:
                    self.count += 1
                self.made += 1
            self.slots[at] = Seen(ids[i], times[i] + 1)
            if self.count * 4 > self.size * 3 or self.made > self.size * 2:
                self._tidy(oldest)
        return out
