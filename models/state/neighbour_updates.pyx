# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates neighbour rows with pairs of items, compiled."""

from libc.math cimport exp2
from libc.stdint cimport int64_t, uint8_t, uint64_t

from headrace.streams.messages.packed_item_events cimport ItemEvent, records_of
from headrace.models.state.row_access cimport AHEAD, LINE, bytes_of, field_at, prefetch, rows_of_events

import numpy as np


cdef class NeighbourUpdates:
    """Adds pairs to neighbour rows."""

    cdef Py_ssize_t size
    cdef ptrdiff_t offset, updated, seq_total, co_total, other, seq, co
    cdef int n_slots
    cdef int64_t step_ms
    cdef double half_life_ms

    def __init__(self, dtype, *, int slots, int64_t step_ms, double half_life_ms):
        self.size = dtype.itemsize
        self.n_slots, self.step_ms, self.half_life_ms = slots, step_ms, half_life_ms
        self.offset = field_at(dtype, "offset", "<i8")
        self.updated = field_at(dtype, "updated", "<i8")
        self.seq_total = field_at(dtype, "seq_total", "<f4")
        self.co_total = field_at(dtype, "co_total", "<f4")
        self.other = field_at(dtype, "other", "<u8", (slots,))
        self.seq = field_at(dtype, "seq", "<f4", (slots,))
        self.co = field_at(dtype, "co", "<f4", (slots,))

    def apply(self, data, const int64_t[::1] rows, pairs, const int64_t[::1] offsets):
        """Add pairs in order; return which of them counted, bool ``(n,)``."""
        cdef Py_ssize_t i, n = len(pairs), size = self.size
        cdef unsigned char[::1] raw = bytes_of(data, size)
        cdef const unsigned char[::1] records = records_of(pairs)
        cdef unsigned char *row
        cdef unsigned char *base
        cdef const ItemEvent *e
        cdef ptrdiff_t at
        if offsets.shape[0] != n:
            raise ValueError(f"{offsets.shape[0]} offsets for {n} pairs")
        rows_of_events(rows, len(data), n)
        done = np.empty(n, np.bool_)
        if not n:
            return done
        cdef uint8_t[::1] fresh = done.view(np.uint8)
        base = &raw[0]
        e = <const ItemEvent *>&records[0]
        with nogil:
            for i in range(n):
                if i + AHEAD < n:
                    prefetch(base + rows[i + AHEAD] * size)
                fresh[i] = offsets[i] > (<int64_t *>(base + rows[i] * size + self.offset))[0]
            for i in range(n):
                if i + AHEAD < n:
                    row = base + rows[i + AHEAD] * size
                    at = 0
                    while at < self.seq:
                        prefetch(row + at)
                        at += LINE
                if fresh[i]:
                    row = base + rows[i] * size
                    if offsets[i] > (<int64_t *>(row + self.offset))[0]:
                        (<int64_t *>(row + self.offset))[0] = offsets[i]
                    self._add(row, &e[i])
        return done

    cdef inline void _add(self, unsigned char *row, const ItemEvent *e) noexcept nogil:
        """Add a pair to the row of its item: to a known neighbour, else to a free or the weakest place."""
        cdef int64_t *updated = <int64_t *>(row + self.updated)
        cdef float *seq_total = <float *>(row + self.seq_total)
        cdef float *co_total = <float *>(row + self.co_total)
        cdef uint64_t *other = <uint64_t *>(row + self.other)
        cdef float *seq = <float *>(row + self.seq)
        cdef float *co = <float *>(row + self.co)
        cdef int64_t stands = updated[0] // self.step_ms, now = e.ts // self.step_ms
        cdef int j, place = -1
        cdef float factor, own, weakest
        if now > stands:
            factor = <float>exp2(-<double>((now - stands) * self.step_ms) / self.half_life_ms)
            for j in range(self.n_slots):
                seq[j] *= factor
            for j in range(self.n_slots):
                co[j] *= factor
            seq_total[0] *= factor
            co_total[0] *= factor
            stands = now
        if e.ts > updated[0]:
            updated[0] = e.ts
        own = 1 if now == stands else <float>exp2(<double>((now - stands) * self.step_ms) / self.half_life_ms)
        seq_total[0] += e.seq_weight * own
        co_total[0] += e.amount * own
        for j in range(self.n_slots):
            if other[j] == e.other:
                seq[j] += e.seq_weight * own
                co[j] += e.amount * own
                return
            if not other[j]:  # places are filled in order and never emptied
                place = j
                break
        if place < 0:
            place, weakest = 0, seq[0] + co[0]
            for j in range(1, self.n_slots):
                if seq[j] + co[j] < weakest:
                    place, weakest = j, seq[j] + co[j]
        other[place], seq[place], co[place] = e.other, e.seq_weight * own, e.amount * own
