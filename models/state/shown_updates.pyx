# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates rows of what users were shown, compiled: one pass over the slots of a batch of impressions."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memmove

from headrace.models.state.row_access cimport AHEAD, bytes_of, field_at, prefetch, rows_of_events

import numpy as np

from headrace.models.state.row_access import distinct

cdef enum:
    MOST = 255  # a larger count is kept as this


cdef class ShownUpdates:
    """Puts shown items into rows."""

    cdef Py_ssize_t size
    cdef ptrdiff_t offset, updated, count, items, times, counts
    cdef uint32_t n_items

    def __init__(self, dtype, *, int items):
        if items < 1:
            raise ValueError(f"{items} items")
        self.size, self.n_items = dtype.itemsize, items
        self.offset = field_at(dtype, "offset", "<i8")
        self.updated = field_at(dtype, "updated", "<i8")
        self.count = field_at(dtype, "count", "<u4")
        self.items = field_at(dtype, "items", "<u8", (items,))
        self.times = field_at(dtype, "times", "<u4", (items,))
        self.counts = field_at(dtype, "counts", "u1", (items,))

    def apply(
        self, data, const int64_t[::1] rows, const int64_t[::1] slots, const uint64_t[::1] items,
        const int64_t[::1] ts, const int64_t[::1] offsets,
    ):
        cdef Py_ssize_t i, k, n = slots.shape[0], size = self.size, at = 0, found = 0
        cdef unsigned char[::1] raw = bytes_of(data, size)
        cdef unsigned char *row
        cdef unsigned char *base
        cdef int64_t total = 0
        rows_of_events(rows, len(data), n)
        if ts.shape[0] != n or offsets.shape[0] != n:
            raise ValueError(f"{n} impressions, {ts.shape[0]} times, {offsets.shape[0]} offsets")
        for i in range(n):
            if slots[i] < 0 or not 0 <= ts[i] // 1000 <= 0xFFFFFFFF:
                raise ValueError(f"{slots[i]} slots at {ts[i]}")
            total += slots[i]
        if total != items.shape[0]:
            raise ValueError(f"{items.shape[0]} items in {total} slots")
        changed = np.empty(n, np.int64)
        if not n:
            return changed
        cdef int64_t[::1] to = changed
        base = &raw[0]
        with nogil:
            for i in range(n):
                if i + AHEAD < n:
                    prefetch(base + rows[i + AHEAD] * size)
                    prefetch(base + rows[i + AHEAD] * size + self.items)
                row = base + rows[i] * size
                if offsets[i] > (<int64_t *>(row + self.offset))[0]:
                    (<int64_t *>(row + self.offset))[0] = offsets[i]
                    if ts[i] > (<int64_t *>(row + self.updated))[0]:
                        (<int64_t *>(row + self.updated))[0] = ts[i]
                    for k in range(at, at + slots[i]):
                        self._show(row, items[k], <uint32_t>(ts[i] // 1000))
                    to[found] = rows[i]
                    found += 1
                at += slots[i]
        return distinct(changed[:found], len(data))

    cdef inline void _show(self, unsigned char *row, uint64_t item, uint32_t second) noexcept nogil:
        """Move an item to the end of the row, or add it there; a full row drops the first one."""
        cdef uint32_t *count = <uint32_t *>(row + self.count)
        cdef uint64_t *items = <uint64_t *>(row + self.items)
        cdef uint32_t *times = <uint32_t *>(row + self.times)
        cdef uint8_t *counts = <uint8_t *>(row + self.counts)
        cdef uint32_t n = count[0] if count[0] <= self.n_items else self.n_items
        cdef uint32_t place = 0, newest = second
        cdef uint8_t often = 1
        while place < n and items[place] != item:
            place += 1
        if place < n:
            newest = times[place] if times[place] > second else second
            often = counts[place] + 1 if counts[place] < MOST else MOST
        elif n < self.n_items:
            n += 1
        else:
            place = 0
        if place < n - 1:
            memmove(items + place, items + place + 1, 8 * (n - 1 - place))
            memmove(times + place, times + place + 1, 4 * (n - 1 - place))
            memmove(counts + place, counts + place + 1, n - 1 - place)
        items[n - 1], times[n - 1], counts[n - 1], count[0] = item, newest, often, n
