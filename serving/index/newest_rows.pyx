# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows of a table in the order of their age, in blocks, compiled."""

from cpython cimport array
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memmove

from array import array as made

import numpy as np

#: A block of more rows than this is cut in two.
_LARGEST = 512


cdef class NewestRows:
    """Finds, adds and removes rows in blocks; the order is: newest first, ties by key."""

    cdef object _data
    cdef const uint64_t[:] _key
    cdef const int64_t[:] _published

    def __init__(self, data):
        self._data = data
        self._key, self._published = data["key"], data["published"]

    cdef inline bint _before(self, int row, int64_t published, uint64_t key) noexcept nogil:
        """Return whether a row is before a time and a key."""
        cdef int64_t time = self._published[row]
        return time > published or (time == published and self._key[row] < key)

    cdef tuple _place(self, list blocks, int64_t published, uint64_t key):
        """Return block and place of the first row that is not before a time and a key."""
        cdef Py_ssize_t low = 0, high = len(blocks) - 1, middle, place = 0, end
        cdef array.array block
        if not blocks:
            return 0, 0
        while low < high:
            middle = (low + high + 1) // 2
            block = <array.array> blocks[middle]
            if self._before(block.data.as_ints[0], published, key):
                low = middle
            else:
                high = middle - 1
        block = <array.array> blocks[low]
        end = len(block)
        while place < end:
            middle = (place + end) // 2
            if self._before(block.data.as_ints[middle], published, key):
                place = middle + 1
            else:
                end = middle
        return low, place

    cdef int _add(self, list blocks, int row) except -1:
        cdef Py_ssize_t at, place, n, half
        cdef array.array block
        if not blocks:
            blocks.append(made("i", [row]))
            return 0
        at, place = self._place(blocks, self._published[row], self._key[row])
        block = <array.array> blocks[at]
        n = len(block)
        array.resize_smart(block, n + 1)
        memmove(&block.data.as_ints[place + 1], &block.data.as_ints[place], (n - place) * sizeof(int))
        block.data.as_ints[place] = row
        if n + 1 > _LARGEST:
            half = (n + 1) // 2
            blocks[at : at + 1] = [block[:half], block[half:]]
        return 0

    cdef int _remove(self, list blocks, int row) except -1:
        at, place = self._place(blocks, self._published[row], self._key[row])
        if place == len(blocks[at]):  # it is the first of the next block
            at, place = at + 1, 0
        del blocks[at][place]
        if not blocks[at]:
            del blocks[at]
        return 0

    def add(self, list blocks, const int64_t[::1] rows):
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            self._add(blocks, <int> rows[i])

    def remove(self, list blocks, const int64_t[::1] rows):
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            self._remove(blocks, <int> rows[i])

    def add_to_groups(self, dict groups, const int64_t[::1] rows, const uint64_t[::1] group):
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            if group[i]:
                name = group[i]
                blocks = groups.get(name)
                if blocks is None:
                    blocks = groups[name] = []
                self._add(<list> blocks, <int> rows[i])

    def remove_from_groups(self, dict groups, const int64_t[::1] rows, const uint64_t[::1] group):
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            if group[i]:
                name = group[i]
                blocks = <list> groups[name]
                self._remove(blocks, <int> rows[i])
                if not blocks:
                    del groups[name]

    def newest(self, list blocks, now, k):
        at, place = self._place(blocks, now, 0)
        found = made("i")
        while at < len(blocks) and len(found) < k:
            found += blocks[at][place : place + k - len(found)]
            at, place = at + 1, 0
        return np.frombuffer(found, np.int32) if found else np.zeros(0, np.int32)

    def order(self, rows):
        return np.lexsort((self._data["key"][rows], -self._data["published"][rows]))


def in_blocks(rows):
    size = len(rows) if len(rows) <= _LARGEST else _LARGEST // 2
    return [made("i", rows[at : at + size].tobytes()) for at in range(0, len(rows), max(1, size))]
