# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Merges lists of keys into one, in ascending order of the keys; the strongest keys of groups, compiled."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memset

import numpy as np

cdef struct Entry:
    uint64_t key
    double strength
    uint32_t mask
    int32_t lead


cdef struct Ordered:
    uint64_t key
    int32_t at

cdef enum:
    BITS = 11
    BUCKETS = 2048
    PASSES = 2  # an even number: the result is in the first half


cdef int _by_key(const void *a, const void *b) noexcept nogil:
    cdef uint64_t left = (<const Ordered *> a).key, right = (<const Ordered *> b).key
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


cdef void _sort(Ordered *ones, Ordered *room, Py_ssize_t n) noexcept nogil:
    """Sort by key, in place: by the upper bits without comparing; keys are hashes, so few have the same ones."""
    cdef int32_t starts[BUCKETS]
    cdef int32_t count, total
    cdef Py_ssize_t i, first
    cdef int turn, bucket, shift
    cdef Ordered *other
    for turn in range(PASSES):
        shift = 64 - (PASSES - turn) * BITS
        memset(starts, 0, sizeof(starts))
        for i in range(n):
            starts[ones[i].key >> shift & (BUCKETS - 1)] += 1
        total = 0
        for bucket in range(BUCKETS):
            count = starts[bucket]
            starts[bucket] = total
            total += count
        for i in range(n):
            bucket = <int> (ones[i].key >> shift & (BUCKETS - 1))
            room[starts[bucket]] = ones[i]
            starts[bucket] += 1
        other = ones
        ones = room
        room = other
    first = 0
    for i in range(1, n + 1):
        if i == n or ones[i].key >> (64 - PASSES * BITS) != ones[first].key >> (64 - PASSES * BITS):
            if i - first > 1:
                qsort(ones + first, i - first, sizeof(Ordered), _by_key)
            first = i


cdef tuple _columns(_Table table):
    cdef Py_ssize_t i, n = table.used
    keys, masks, strengths = np.empty(n, np.uint64), np.empty(n, np.uint32), np.empty(n)
    cdef uint64_t[::1] key = keys
    cdef uint32_t[::1] mask = masks
    cdef double[::1] strength = strengths
    cdef Entry *entry
    cdef Ordered *ones = <Ordered *> malloc(2 * max(<Py_ssize_t> 1, n) * sizeof(Ordered))
    if ones == NULL:
        raise MemoryError()
    for i in range(n):
        ones[i].key, ones[i].at = table.entries[i].key, <int32_t> i
    _sort(ones, ones + n, n)
    for i in range(n):
        entry = &table.entries[ones[i].at]
        key[i], mask[i], strength[i] = entry.key, entry.mask, entry.strength + (1 if entry.lead else 0)
    free(ones)
    return keys, masks, strengths


cdef struct Weighed:
    float weight
    int32_t place


cdef int _by_weight(const void *a, const void *b) noexcept nogil:
    """Order the largest weight first; of equal ones, the first."""
    cdef const Weighed *left = <const Weighed *> a
    cdef const Weighed *right = <const Weighed *> b
    if left.weight != right.weight:
        return (left.weight < right.weight) - (left.weight > right.weight)
    return (left.place > right.place) - (left.place < right.place)


def strongest_of(
    const int64_t[:] group not None, const uint64_t[:] keys not None, const float[:] weight not None,
    Py_ssize_t k
):
    cdef Py_ssize_t i = 0, j, m, n = group.shape[0]
    cdef int64_t at = 0
    cdef uint64_t[::1] to
    cdef list out = []
    if keys.shape[0] != n or weight.shape[0] != n:
        raise ValueError(f"{n} groups, {keys.shape[0]} keys, {weight.shape[0]} weights")
    for i in range(n):
        if group[i] < (group[i - 1] if i else 0):
            raise ValueError("groups are numbered from 0 on, and ascend")
    cdef Weighed *found = <Weighed *> malloc(max(<Py_ssize_t> 1, n) * sizeof(Weighed))
    if found == NULL:
        raise MemoryError()
    try:
        i = 0
        while i < n:
            m = 0
            while i < n and group[i] == at:
                if weight[i] > 0:
                    found[m].weight, found[m].place = weight[i], <int32_t> i
                    m += 1
                i += 1
            qsort(found, m, sizeof(Weighed), _by_weight)
            m = max(<Py_ssize_t> 0, min(m, k))
            one = np.empty(m, np.uint64)
            to = one
            for j in range(m):
                to[j] = keys[found[j].place]
            out.append(one)
            at += 1
    finally:
        free(found)
    return out
