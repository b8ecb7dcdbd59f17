# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates rows of items with item events, compiled: one access to a row for each event."""

from libc.math cimport exp2
from libc.stdint cimport int64_t, uint64_t

from headrace.models.state.counter cimport (
    Counter, Plan, Spot, add_amount, advance_decayed, advance_rings, locate, prefetch_cells,
)
from headrace.models.state.row_access cimport (
    AHEAD, LINE, RowBits, borrow_row_bits, bytes_of, chosen_events, counts, field_at, prefetch, return_row_bits,
    rows_of_events,
)
from headrace.streams.messages.packed_item_events cimport ItemEvent, place_of, records_of

import numpy as np

from headrace.streams.messages.columns import KIND

cdef enum:
    MINUTE_MS = 60_000  # decayed counts weigh an event by its minute: events of a minute may be put together
    MOMENTS = 64

cdef int _CLICK = KIND["click"]


cdef struct Moment:
    # What the events of a minute share.
    int64_t minute  # since the epoch
    int64_t day  # where decayed counts of its day stand, ms
    double weight  # of an event, in a row of that day
    Spot spot


cdef inline Moment *_moment(Moment *moments, const Plan *p, int64_t ts) noexcept nogil:
    """Return what the events of the minute of ``ts`` share; valid until the next call."""
    cdef int64_t minute = ts // MINUTE_MS
    cdef Moment *moment = &moments[minute & (MOMENTS - 1)]
    if moment.minute != minute:
        moment.minute = minute
        moment.day = minute * MINUTE_MS // p.stand_ms * p.stand_ms
        moment.weight = exp2(<double>(minute * MINUTE_MS - moment.day) / p.half_life_ms)
        locate(p, minute * MINUTE_MS, &moment.spot)
    return moment


cdef class ItemUpdates:
    """Counts item events in rows of items, of (item, country), or of (item, age group in a country)."""

    cdef Counter counter
    cdef ptrdiff_t item, country, offset, first_ts, last_click
    cdef int metric[16]
    cdef int by

    def __init__(self, Counter counter, dtype, *, metric, by):
        cdef int k
        if len(metric) != len(KIND):
            raise ValueError("a metric for every kind of event")
        self.counter = counter
        for k in range(len(metric)):
            if not -1 <= metric[k] < counter.plan.metrics:
                raise ValueError(f"metric {metric[k]}")
            self.metric[k] = metric[k]
        for k in range(counter.plan.tiers):
            if counter.plan.tier[k].bucket_ms % MINUTE_MS:
                raise ValueError("events of a minute are in one bucket")
        if counter.plan.stand_ms % MINUTE_MS:
            raise ValueError("decayed counts stand at a full minute")
        self.by = by
        self.item, self.country = field_at(dtype, "item", "<u8"), field_at(dtype, "country", "<u8")
        self.offset = field_at(dtype, "offset", "<i8")
        self.first_ts = field_at(dtype, "first_ts", "<i8")
        self.last_click = field_at(dtype, "last_click", "<i8")

    def apply(self, data, const int64_t[::1] rows, events, const int64_t[::1] at, const int64_t[::1] offsets):
        cdef Counter counter = self.counter
        cdef Py_ssize_t i, n = rows.shape[0], size = counter.size, found = 0
        cdef unsigned char[::1] raw = bytes_of(data, size)
        cdef const unsigned char[::1] records = records_of(events)
        cdef Plan *p = &counter.plan
        cdef unsigned char *row
        cdef unsigned char *base
        cdef const ItemEvent *e
        cdef Moment moments[MOMENTS]
        rows_of_events(rows, len(data), n)
        chosen_events(at, n, len(events), offsets)
        changed = np.empty(n, np.int64)
        if not n:
            return changed
        cdef int64_t[::1] to = changed
        base = &raw[0]
        e = <const ItemEvent *>&records[0]
        self._check(e, at)
        for i in range(MOMENTS):
            moments[i].minute = -1
        cdef RowBits counting = borrow_row_bits(len(data))  # set: rows with a new event
        with nogil:
            for i in range(-AHEAD, n):
                if i + AHEAD < n:
                    row = base + rows[i + AHEAD] * size
                    prefetch(row)
                    prefetch(row + LINE)
                    prefetch(row + 2 * LINE)
                    prefetch_cells(row, p, &_moment(moments, p, e[at[i + AHEAD]].ts).spot)
                if i < 0:
                    continue
                row = base + rows[i] * size
                if not counts(
                    counting, rows[i], <int64_t *>(row + self.offset), offsets[at[i]], &to[0], &found
                ):
                    continue
                self._count(row, &e[at[i]], _moment(moments, p, e[at[i]].ts))
        return_row_bits(counting, to, found)
        return changed[:found]

    cdef inline void _count(self, unsigned char *row, const ItemEvent *e, const Moment *moment) noexcept nogil:
        """Add an event to its row."""
        cdef Plan *p = &self.counter.plan
        cdef int64_t *updated = <int64_t *>(row + p.updated)
        cdef int64_t *first = <int64_t *>(row + self.first_ts)
        cdef double weight
        (<uint64_t *>(row + self.item))[0] = e.item
        if self.by:
            (<uint64_t *>(row + self.country))[0] = place_of(e, self.by)
        if first[0] == 0 or e.ts - e.span < first[0]:
            first[0] = e.ts - e.span
        if e.kind == _CLICK and e.ts > (<int64_t *>(row + self.last_click))[0]:
            (<int64_t *>(row + self.last_click))[0] = e.ts
        advance_rings(row, p, &moment.spot)
        if moment.day <= updated[0] < moment.day + p.stand_ms:
            weight = moment.weight
            updated[0] = max(updated[0], e.ts)
        else:
            weight = advance_decayed(row, p, e.ts, moment.minute * MINUTE_MS)
        add_amount(row, p, &moment.spot, self.metric[e.kind], <int64_t>e.amount, weight)

    cdef int _check(self, const ItemEvent *e, const int64_t[::1] at) except -1:
        """Raise ValueError unless all events are of kinds that are counted, with a time and an amount that fit."""
        cdef Py_ssize_t i
        cdef int n_kinds = len(KIND)
        for i in range(at.shape[0]):
            if (
                e[at[i]].kind >= n_kinds or self.metric[e[at[i]].kind] < 0
                or not e[at[i]].span <= e[at[i]].ts <= self.counter.plan.latest
            ):
                raise ValueError(f"item event of kind {e[at[i]].kind} at {e[at[i]].ts}, amount {e[at[i]].amount}")
        return 0
