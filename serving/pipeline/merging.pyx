# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Merges lists of keys into one, in ascending order of the keys, compiled."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort

import numpy as np

cdef struct Entry:
    uint64_t key
    double strength
    uint32_t mask
    int32_t lead


cdef int _by_key(const void *a, const void *b) noexcept nogil:
    cdef uint64_t left = (<const Entry *> a).key, right = (<const Entry *> b).key
    return (left > right) - (left < right)


cdef class _Table:
    """Entries in the order in which their keys came, found by a hash table."""

    cdef Entry *entries
    cdef int32_t *slots  # number of the entry, from 1 on; 0: free
    cdef Py_ssize_t used
    cdef uint64_t mask
    cdef int shift

    def __cinit__(self, Py_ssize_t most):
        cdef Py_ssize_t room = 16
        self.shift, self.used = 60, 0
        while room < 2 * most:
            room *= 2
            self.shift -= 1
        self.mask = room - 1
        self.slots = <int32_t *> calloc(room, sizeof(int32_t))
        self.entries = <Entry *> malloc(max(<Py_ssize_t> 1, most) * sizeof(Entry))
        if self.slots == NULL or self.entries == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)
        free(self.entries)

    cdef inline Entry *of(self, uint64_t key) noexcept nogil:
        cdef uint64_t at = (key * <uint64_t> 0x9E3779B97F4A7C15) >> self.shift
        cdef Entry *entry
        while self.slots[at]:
            entry = &self.entries[self.slots[at] - 1]
            if entry.key == key:
                return entry
            at = (at + 1) & self.mask
        entry = &self.entries[self.used]
        self.used += 1
        self.slots[at] = <int32_t> self.used
        entry.key, entry.strength, entry.mask, entry.lead = key, 0, 0, 0
        return entry


def merge_lists(list lists, list sources, const double[::1] gain not None, Py_ssize_t first):
    cdef Py_ssize_t i, n, total = 0
    cdef uint32_t bit
    cdef const uint64_t[:] keys
    cdef Entry *entry
    if len(sources) != len(lists) or not all(0 <= source < 32 for source in sources):
        raise ValueError(f"{len(lists)} lists of {len(sources)} sources, each from 0 to 31")
    for one in lists:
        total += len(one)
        if len(one) > gain.shape[0]:
            raise ValueError(f"a list of {len(one)} keys, {gain.shape[0]} gains")
    cdef _Table table = _Table(total)
    for n in range(len(lists)):
        keys, bit = lists[n], (<uint32_t> 1) << <int> sources[n]
        for i in range(keys.shape[0]):
            entry = table.of(keys[i])
            entry.strength += gain[i]
            entry.mask |= bit
            entry.lead |= i < first
    return _columns(table)


cdef tuple _columns(_Table table):
    cdef Py_ssize_t i, n = table.used
    qsort(table.entries, n, sizeof(Entry), _by_key)
    keys, masks, strengths = np.empty(n, np.uint64), np.empty(n, np.uint32), np.empty(n)
    cdef uint64_t[::1] key = keys
    cdef uint32_t[::1] mask = masks
    cdef double[::1] strength = strengths
    for i in range(n):
        key[i], mask[i] = table.entries[i].key, table.entries[i].mask
        strength[i] = table.entries[i].strength + (1 if table.entries[i].lead else 0)
    return keys, masks, strengths
