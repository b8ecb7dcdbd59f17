# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates rows of items with item events, compiled: one access to a row for each event."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from headrace.models.state.counter cimport Counter, Plan, Spot, add_amount, advance_to, locate, prefetch_cells
from headrace.streams.messages.packed_item_events cimport ItemEvent, records_of
from headrace.models.state.row_access cimport AHEAD, LINE, bytes_of, field_at, prefetch, rows_of_events

import numpy as np

from headrace.streams.messages.columns import KIND

cdef enum:
    MINUTE_MS = 60_000  # decayed counts weigh an event by its minute: events of a minute may be put together

cdef int _CLICK = KIND["click"]


cdef class ItemUpdates:
    """Counts item events in rows of items, or of (item, country)."""

    cdef Counter counter
    cdef ptrdiff_t item, country, offset, first_ts, last_click
    cdef int metric[16]
    cdef bint by_country

    def __init__(self, Counter counter, dtype, *, metric, by_country):
        cdef int k
        if len(metric) != len(KIND):
            raise ValueError("a metric for every kind of event")
        self.counter = counter
        for k in range(len(metric)):
            if not -1 <= metric[k] < counter.plan.metrics:
                raise ValueError(f"metric {metric[k]}")
            self.metric[k] = metric[k]
        self.by_country = by_country
        self.item, self.country = field_at(dtype, "item", "<u8"), field_at(dtype, "country", "<u8")
        self.offset = field_at(dtype, "offset", "<i8")
        self.first_ts = field_at(dtype, "first_ts", "<i8")
        self.last_click = field_at(dtype, "last_click", "<i8")

    def apply(self, data, const int64_t[::1] rows, events, const int64_t[::1] offsets):
        """Count events in their rows; return which of them counted, bool ``(n,)``.

        A record has many events, all with one offset. So the events that a row has already counted are found
        before any event of the batch is counted.
        """
        cdef Counter counter = self.counter
        cdef Py_ssize_t i, n = len(events), size = counter.size
        cdef unsigned char[::1] raw = bytes_of(data, size)
        cdef const unsigned char[::1] records = records_of(events)
        cdef Plan *p = &counter.plan
        cdef unsigned char *row
        cdef unsigned char *base
        cdef int64_t *first
        cdef const ItemEvent *e
        cdef int metric
        cdef double weight
        cdef Spot spots[AHEAD]
        cdef Spot here
        cdef Spot *spot
        if offsets.shape[0] != n:
            raise ValueError(f"{offsets.shape[0]} offsets for {n} events")
        rows_of_events(rows, len(data), n)
        done = np.empty(n, np.bool_)
        if not n:
            return done
        cdef uint8_t[::1] fresh = done.view(np.uint8)
        base = &raw[0]
        e = <const ItemEvent *>&records[0]
        self._check(e, n)
        with nogil:
            for i in range(n):
                if i + AHEAD < n:
                    prefetch(base + rows[i + AHEAD] * size)
                fresh[i] = offsets[i] > (<int64_t *>(base + rows[i] * size + self.offset))[0]
            for i in range(-AHEAD, n):
                if i >= 0:
                    here = spots[i % AHEAD]
                if i + AHEAD < n:
                    row = base + rows[i + AHEAD] * size
                    spot = &spots[(i + AHEAD) % AHEAD]
                    locate(p, e[i + AHEAD].ts, spot)
                    prefetch(row)
                    prefetch(row + LINE)
                    prefetch(row + 2 * LINE)
                    prefetch_cells(row, p, spot)
                if i < 0 or not fresh[i]:
                    continue
                row = base + rows[i] * size
                if offsets[i] > (<int64_t *>(row + self.offset))[0]:
                    (<int64_t *>(row + self.offset))[0] = offsets[i]
                (<uint64_t *>(row + self.item))[0] = e[i].item
                if self.by_country:
                    (<uint64_t *>(row + self.country))[0] = e[i].country
                first = <int64_t *>(row + self.first_ts)
                if first[0] == 0 or e[i].ts - e[i].span < first[0]:
                    first[0] = e[i].ts - e[i].span
                if e[i].kind == _CLICK and e[i].ts > (<int64_t *>(row + self.last_click))[0]:
                    (<int64_t *>(row + self.last_click))[0] = e[i].ts
                metric = self.metric[e[i].kind]
                weight = advance_to(row, p, e[i].ts, e[i].ts // MINUTE_MS * MINUTE_MS, &here)
                add_amount(row, p, &here, metric, <int64_t>e[i].amount, weight)
        return done

    cdef int _check(self, const ItemEvent *e, Py_ssize_t n) except -1:
        """Raise ValueError unless all events are of kinds that are counted, with a time and an amount that fit."""
        cdef Py_ssize_t i
        cdef int n_kinds = len(KIND)
        for i in range(n):
            if (
                e[i].kind >= n_kinds or self.metric[e[i].kind] < 0
                or not e[i].span <= e[i].ts <= self.counter.plan.latest
            ):
                raise ValueError(f"item event of kind {e[i].kind} at {e[i].ts}, amount {e[i].amount}")
        return 0
