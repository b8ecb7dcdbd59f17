# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which keys are among a few, what these add up to, and numbers for keys, compiled."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc

from headrace.models.state.key_sets cimport KeyTable, bits_for, empty_table, first_place, place_of

import numpy as np


cdef class KeySet:
    """A few keys in an open hash table."""

    cdef KeyTable _table
    cdef void *_room

    def __cinit__(self, few):
        cdef const uint64_t[:] keys = np.asarray(few, np.uint64)
        cdef Py_ssize_t i
        cdef int bits = bits_for(keys.shape[0])
        self._room = malloc((<size_t> 1 << bits) * (sizeof(uint64_t) + sizeof(int32_t)))
        if self._room == NULL:
            raise MemoryError()
        empty_table(&self._table, <uint64_t *> self._room, <int32_t *> (<uint64_t *> self._room + (1 << bits)), bits)
        for i in range(keys.shape[0]):
            first_place(&self._table, keys[i], i)

    def __dealloc__(self):
        free(self._room)

    cdef inline int64_t _find(self, uint64_t key) noexcept nogil:
        return place_of(&self._table, key)


def among(keys, few):
    cdef const uint64_t[:] asked = np.asarray(keys, np.uint64)
    cdef Py_ssize_t i, n = asked.shape[0]
    out = np.zeros(n, np.bool_)
    if not len(few):
        return out
    cdef KeySet known = KeySet(few)
    cdef char[::1] found = out.view(np.int8)
    for i in range(n):
        found[i] = known._find(asked[i]) >= 0
    return out


def any_twice(keys):
    cdef const uint64_t[:] asked = np.asarray(keys, np.uint64)
    cdef Py_ssize_t i, n = asked.shape[0]
    cdef int bits = bits_for(n)
    cdef KeyTable table
    cdef bint found = False
    cdef void *room = malloc((<size_t> 1 << bits) * (sizeof(uint64_t) + sizeof(int32_t)))
    if room == NULL:
        raise MemoryError()
    empty_table(&table, <uint64_t *> room, <int32_t *> (<uint64_t *> room + (1 << bits)), bits)
    for i in range(n):
        if asked[i] and first_place(&table, asked[i], i) != i:
            found = True
            break
    free(room)
    return found


def sums_among(keys, few, amounts):
    cdef const uint64_t[:] asked = np.asarray(keys, np.uint64)
    cdef const uint64_t[:] given = np.asarray(few, np.uint64)
    cdef const float[:, :] amount = amounts
    cdef Py_ssize_t i, j, n = asked.shape[0], m = given.shape[0], width = amount.shape[0]
    cdef int64_t at
    if amount.shape[1] != m:
        raise ValueError(f"{m} keys, {amount.shape[1]} amounts")
    out, added = np.zeros((width, n), np.float32), np.zeros((m, width), np.float32)
    cdef float[:, ::1] found = out
    cdef float[:, ::1] total = added
    cdef KeySet known = KeySet(few)
    for i in range(m):
        at = known._find(given[i])
        for j in range(width):
            total[at, j] += amount[j, i]
    for i in range(n):
        if asked[i]:
            at = known._find(asked[i])
            if at >= 0:
                for j in range(width):
                    found[j, i] = total[at, j]
    return out


def numbered(keys):
    cdef const uint64_t[:] asked = np.asarray(keys, np.uint64)
    cdef Py_ssize_t i, n = asked.shape[0], count = 0
    out, first = np.empty(n, np.int64), np.empty(n, np.int64)
    cdef int64_t[::1] number = out
    cdef int64_t[::1] of_place = first
    cdef KeySet known = KeySet(keys)
    for i in range(n):
        if known._find(asked[i]) == i:
            of_place[i] = count
            count += 1
        number[i] = of_place[known._find(asked[i])]
    return out
