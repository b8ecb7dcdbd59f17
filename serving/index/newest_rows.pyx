# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows of a table in the order of their age, in blocks, compiled."""

from cpython cimport array
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memmove

from array import array as made

import numpy as np

#: A block of more rows than this is cut in two.
_LARGEST = 512


cdef struct Added:
    int64_t published
    uint64_t key, group
    int row


cdef int _order(const void *a, const void *b) noexcept nogil:
    """Order rows by their groups; in each, newest first, ties by key."""
    cdef const Added *one = <const Added *> a
    cdef const Added *other = <const Added *> b
    if one.group != other.group:
        return 1 if one.group > other.group else -1
    if one.published != other.published:
        return 1 if one.published < other.published else -1
    return (one.key > other.key) - (one.key < other.key)


cdef int _cut(list blocks, Py_ssize_t at) except -1:
    """Cut a block in pieces of about the same size, at most half of what a block may have."""
    cdef array.array block = <array.array> blocks[at]
    cdef Py_ssize_t i, n = len(block), pieces = 1 + (n - 1) // max(1, _LARGEST // 2)
    if n == _LARGEST + 1:  # by one: the halves are a little larger
        pieces = 2
    blocks[at : at + 1] = [block[n * i // pieces : n * (i + 1) // pieces] for i in range(pieces)]
    return 0


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
        cdef Py_ssize_t at
        cdef array.array block
        if not blocks:
            return 0, 0
        at = self._block(blocks, 0, len(blocks) - 1, published, key)
        block = <array.array> blocks[at]
        return at, self._place_in(block.data.as_ints, len(block), published, key)

    cdef Py_ssize_t _block(self, list blocks, Py_ssize_t low, Py_ssize_t high, int64_t published, uint64_t key):
        """Return the last block from ``low`` to ``high`` that begins before a time and a key, else ``low``."""
        cdef Py_ssize_t middle
        cdef array.array block
        while low < high:
            middle = (low + high + 1) // 2
            block = <array.array> blocks[middle]
            if self._before(block.data.as_ints[0], published, key):
                low = middle
            else:
                high = middle - 1
        return low

    cdef inline Py_ssize_t _place_in(self, const int *rows, Py_ssize_t end, int64_t published, uint64_t key) noexcept nogil:
        """Return the place of the first of some rows that is not before a time and a key."""
        cdef Py_ssize_t place = 0, middle
        while place < end:
            middle = (place + end) // 2
            if self._before(rows[middle], published, key):
                place = middle + 1
            else:
                end = middle
        return place

    cdef array.array _rows_between(self, list blocks, const Added *added, Py_ssize_t n, Py_ssize_t *at):
        """Return the block in which the first of ``n`` rows belongs, and note its number; search from ``at`` on."""
        cdef Py_ssize_t low = at[0], last = len(blocks) - 1, high, step = 1 + (last - low) // n
        cdef array.array block
        while True:  # in steps, and then by halves: the next row in order is not far
            high = min(low + step, last)
            block = <array.array> blocks[high]
            if high == low or not self._before(block.data.as_ints[0], added.published, added.key):
                break
            low, step = high, 2 * step
        at[0] = self._block(blocks, low, high - 1, added.published, added.key)
        return <array.array> blocks[at[0]]

    cdef int _merge(self, list blocks, const Added *added, Py_ssize_t n) except -1:
        """Add rows that are in order."""
        cdef Py_ssize_t at = 0, some, end, place, i
        cdef array.array block, after
        cdef int *rows
        if n and not blocks:
            blocks.append(made("i", [added.row]))
            added, n = added + 1, n - 1
        while n > 0:
            block = self._rows_between(blocks, added, n, &at)
            some = n
            if at + 1 < len(blocks):  # how many come before the next block
                after = <array.array> blocks[at + 1]
                some = 1
                while some < n and not self._before(after.data.as_ints[0], added[some].published, added[some].key):
                    some += 1
            end = len(block)
            array.resize_smart(block, end + some)
            rows = block.data.as_ints
            for i in range(some - 1, -1, -1):  # from the end: what is behind a row moves once
                place = self._place_in(rows, end, added[i].published, added[i].key)
                memmove(&rows[place + i + 1], &rows[place], (end - place) * sizeof(int))
                rows[place + i] = added[i].row
                end = place
            if len(block) > _LARGEST:
                _cut(blocks, at)
            added, n = added + some, n - some
        return 0

    cdef int _remove(self, list blocks, int row) except -1:
        at, place = self._place(blocks, self._published[row], self._key[row])
        if place == len(blocks[at]):  # it is the first of the next block
            at, place = at + 1, 0
        del blocks[at][place]
        if not blocks[at]:
            del blocks[at]
        return 0

    cdef Added *_in_order(self, const int64_t[::1] rows, const uint64_t[::1] group) except NULL:
        """Return rows in the order of their groups, and of their age; to be freed."""
        cdef Py_ssize_t i, n = rows.shape[0]
        cdef Added *added = <Added *> malloc((n + 1) * sizeof(Added))
        if added == NULL:
            raise MemoryError
        for i in range(n):
            added[i].row = <int> rows[i]
            added[i].published, added[i].key = self._published[rows[i]], self._key[rows[i]]
            added[i].group = group[i] if group is not None else 0
        qsort(added, n, sizeof(Added), &_order)
        return added

    def add(self, list blocks not None, const int64_t[::1] rows not None):
        cdef Added *added = self._in_order(rows, None)
        try:
            self._merge(blocks, added, rows.shape[0])
        finally:
            free(added)

    def remove(self, list blocks, const int64_t[::1] rows):
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            self._remove(blocks, <int> rows[i])

    def add_to_groups(self, dict groups not None, const int64_t[::1] rows not None, const uint64_t[::1] group not None):
        cdef Py_ssize_t at = 0, end, n = rows.shape[0]
        cdef Added *added = self._in_order(rows, group)
        try:
            while at < n:
                end = at + 1
                while end < n and added[end].group == added[at].group:
                    end += 1
                if added[at].group:
                    name = added[at].group
                    blocks = groups.get(name)
                    if blocks is None:
                        blocks = groups[name] = []
                    self._merge(<list> blocks, added + at, end - at)
                at = end
        finally:
            free(added)

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


def first_rows(
    const int32_t[::1] rows not None, const int64_t[::1] published not None, const uint8_t[::1] hidden not None,
    int64_t now, Py_ssize_t k, after=None,
):
    cdef Py_ssize_t i, count = 0, n = rows.shape[0], at, end = n
    cdef size_t known = min(published.shape[0], hidden.shape[0] * 8)
    at = _not_after(rows, published, known, now)
    if after is not None:
        end = _not_after(rows, published, known, after)
    out = np.empty(max(<Py_ssize_t> 0, min(k, end - at)), np.int32)
    cdef int32_t[::1] to = out
    for i in range(at, end):
        if count == to.shape[0]:
            break
        if <size_t> rows[i] >= known:
            raise IndexError(f"row {rows[i]} of {known}")
        if not hidden[rows[i] >> 3] >> (rows[i] & 7) & 1:
            to[count] = rows[i]
            count += 1
    return out[:count]


cdef Py_ssize_t _not_after(const int32_t[::1] rows, const int64_t[::1] published, size_t known, int64_t time) except -1:
    """Return the place of the first of some rows that is not after a time."""
    cdef Py_ssize_t low = 0, high = rows.shape[0], middle
    while low < high:
        middle = (low + high) // 2
        if <size_t> rows[middle] >= known:
            raise IndexError(f"row {rows[middle]} of {known}")
        if published[rows[middle]] > time:
            low = middle + 1
        else:
            high = middle
    return low


def in_blocks(rows):
    size = len(rows) if len(rows) <= _LARGEST else _LARGEST // 2
    return [made("i", rows[at : at + size].tobytes()) for at in range(0, len(rows), max(1, size))]
