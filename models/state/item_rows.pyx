# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Copies of the rows of items, those of idle items among them; compiled."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from headrace.models.state.row_access cimport LINE, field_at
from headrace.streams.tables.row_bytes cimport RowBytes

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
    AHEAD = 2  # rows that are fetched from memory while earlier ones are copied


cdef struct Idle:  # a row of ``idle_items.IDLE``
    uint64_t key
    int64_t offset, first_ts, last_click
    uint64_t clicks


cdef class ItemRows:
    """Copies rows of one layout; an idle item has a few fields of it."""

    cdef object _dtype
    cdef bytes _blank
    cdef ptrdiff_t _key, _item, _offset, _first_ts, _last_click, _clicks, _more_clicks

    def __init__(self, blank, idle, Py_ssize_t click):
        dtype = self._dtype = blank.dtype
        self._blank = blank.tobytes()
        metrics = dtype.fields["totals"][0].shape
        if not 0 <= click < metrics[0]:
            raise ValueError(f"metric {click} of {metrics[0]}")
        names = [("key", "<u8"), ("offset", "<i8"), ("first_ts", "<i8"), ("last_click", "<i8"), ("clicks", "<u8")]
        if idle != np.dtype(names):
            raise ValueError(f"rows of idle items have another layout than the compiled one: {idle}")
        self._key, self._item = field_at(dtype, "key", "<u8"), field_at(dtype, "item", "<u8")
        self._offset, self._first_ts = field_at(dtype, "offset", "<i8"), field_at(dtype, "first_ts", "<i8")
        self._last_click = field_at(dtype, "last_click", "<i8")
        self._clicks = field_at(dtype, "totals", "<u4", metrics) + click * sizeof(uint32_t)
        self._more_clicks = field_at(dtype, "totals_x", "u1", metrics) + click

    def copied(self, data, const int64_t[::1] rows not None, idle, const int64_t[::1] idle_rows):
        cdef RowBytes source = RowBytes(data, False)
        cdef RowBytes few = RowBytes(idle, False)
        cdef Py_ssize_t i, n = rows.shape[0], size = source.size
        cdef const char *blank = self._blank
        cdef const char *ahead
        cdef char *to
        if size != len(self._blank) or few.size != sizeof(Idle):
            raise ValueError(f"rows of {size} and {few.size} bytes, not of {len(self._blank)} and {sizeof(Idle)}")
        if idle_rows is not None and idle_rows.shape[0] != n:
            raise ValueError(f"{n} rows, {idle_rows.shape[0]} of idle items")
        for i in range(n):
            if rows[i] < -1 or rows[i] >= source.n:
                raise IndexError(f"row {rows[i]} of {source.n}")
            if idle_rows is not None and not -1 <= idle_rows[i] < few.n:
                raise IndexError(f"row {idle_rows[i]} of {few.n} idle items")
        out = np.empty(n, self._dtype)
        cdef RowBytes into = RowBytes(out, True)
        with nogil:
            for i in range(n):
                if i + AHEAD < n and rows[i + AHEAD] >= 0:
                    ahead = source.start + rows[i + AHEAD] * source.step
                    while ahead < source.start + rows[i + AHEAD] * source.step + size:
                        _prefetch(ahead)
                        ahead += LINE
                to = into.start + i * size
                if rows[i] >= 0:
                    memcpy(to, source.start + rows[i] * source.step, size)
                    continue
                memcpy(to, blank, size)
                if idle_rows is not None and idle_rows[i] >= 0:
                    self._fill(to, <const Idle *> (few.start + idle_rows[i] * few.step))
        return out

    cdef void _fill(self, char *to, const Idle *idle) noexcept nogil:
        """Put what is kept of an idle item into a blank row."""
        (<uint64_t *> (to + self._key))[0] = (<uint64_t *> (to + self._item))[0] = idle.key
        (<int64_t *> (to + self._offset))[0] = idle.offset
        (<int64_t *> (to + self._first_ts))[0] = idle.first_ts
        (<int64_t *> (to + self._last_click))[0] = idle.last_click
        (<uint32_t *> (to + self._clicks))[0] = <uint32_t> idle.clicks
        (<uint8_t *> (to + self._more_clicks))[0] = <uint8_t> (idle.clicks >> 32)
