# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates neighbour rows with pairs of items, compiled."""

from libc.math cimport exp2
from libc.stdint cimport int64_t, uint64_t

from headrace.models.state.row_access cimport (
    AHEAD, LINE, RowBits, borrow_row_bits, bytes_of, chosen_events, counts, field_at, prefetch, return_row_bits,
    rows_of_events,
)
from headrace.streams.messages.packed_item_events cimport ItemEvent, records_of

import numpy as np

cdef enum:
    FACTORS = 256
    BLOCK = 8


cdef class NeighbourUpdates:
    """Adds pairs to neighbour rows."""

    cdef Py_ssize_t size
    cdef ptrdiff_t offset, updated, seq_total, co_total, other, seq, co, seq_recent, co_recent
    cdef int n_slots
    cdef int64_t step_ms
    cdef double half_life_ms, recent_ms
    cdef float factors[FACTORS]  # by age in steps
    cdef float recent_factors[FACTORS]

    def __init__(self, dtype, *, int slots, int64_t step_ms, double half_life_ms, double recent_ms):
        cdef int age
        if slots % BLOCK or slots < BLOCK:
            raise ValueError(f"{slots} places: they are looked at {BLOCK} at a time")
        self.size = dtype.itemsize
        self.n_slots, self.step_ms, self.half_life_ms, self.recent_ms = slots, step_ms, half_life_ms, recent_ms
        self.offset = field_at(dtype, "offset", "<i8")
        self.updated = field_at(dtype, "updated", "<i8")
        self.seq_total = field_at(dtype, "seq_total", "<f4")
        self.co_total = field_at(dtype, "co_total", "<f4")
        self.other = field_at(dtype, "other", "<u8", (slots,))
        self.seq = field_at(dtype, "seq", "<f4", (slots,))
        self.co = field_at(dtype, "co", "<f4", (slots,))
        self.seq_recent = field_at(dtype, "seq_recent", "<f4", (slots,))
        self.co_recent = field_at(dtype, "co_recent", "<f4", (slots,))
        for age in range(FACTORS):
            self.factors[age] = self._factor_at(age, half_life_ms)
            self.recent_factors[age] = self._factor_at(age, recent_ms)

    def apply(self, data, const int64_t[::1] rows, events, const int64_t[::1] at, const int64_t[::1] offsets):
        cdef Py_ssize_t i, n = rows.shape[0], size = self.size, found = 0
        cdef unsigned char[::1] raw = bytes_of(data, size)
        cdef const unsigned char[::1] records = records_of(events)
        cdef unsigned char *row
        cdef unsigned char *base
        cdef const ItemEvent *e
        cdef ptrdiff_t line
        cdef int64_t step = 0
        rows_of_events(rows, len(data), n)
        chosen_events(at, n, len(events), offsets)
        changed = np.empty(n, np.int64)
        if not n:
            return changed
        cdef int64_t[::1] to = changed
        base = &raw[0]
        e = <const ItemEvent *>&records[0]
        cdef RowBits counting = borrow_row_bits(len(data))  # set: rows with a new pair
        with nogil:
            for i in range(-AHEAD, n):
                if i + AHEAD < n:
                    row = base + rows[i + AHEAD] * size
                    line = 0
                    while line < self.seq:
                        prefetch(row + line)
                        line += LINE
                if i < 0:
                    continue
                row = base + rows[i] * size
                if not counts(
                    counting, rows[i], <int64_t *>(row + self.offset), offsets[at[i]], &to[0], &found
                ):
                    continue
                self._add(row, &e[at[i]], &step)
        return_row_bits(counting, to, found)
        return changed[:found]

    cdef float _factor_at(self, int64_t age, double half_life_ms) noexcept nogil:
        return <float>exp2(-<double>(age * self.step_ms) / half_life_ms)

    cdef inline float _factor(self, int64_t age) noexcept nogil:
        """Return the weight of a pair that is ``age`` steps old."""
        return self.factors[age] if age < FACTORS else self._factor_at(age, self.half_life_ms)

    cdef inline float _recent_factor(self, int64_t age) noexcept nogil:
        """Return its weight among the recent ones."""
        return self.recent_factors[age] if age < FACTORS else self._factor_at(age, self.recent_ms)

    cdef inline void _add(self, unsigned char *row, const ItemEvent *e, int64_t *step) noexcept nogil:
        """Add a pair to the row of its item: to a known neighbour, else to a free or the weakest place."""
        cdef int64_t *updated = <int64_t *>(row + self.updated)
        cdef float *seq_total = <float *>(row + self.seq_total)
        cdef float *co_total = <float *>(row + self.co_total)
        cdef uint64_t *other = <uint64_t *>(row + self.other)
        cdef float *seq = <float *>(row + self.seq)
        cdef float *co = <float *>(row + self.co)
        cdef float *seq_recent = <float *>(row + self.seq_recent)
        cdef float *co_recent = <float *>(row + self.co_recent)
        cdef int64_t stands = _step_of(updated[0], self.step_ms, step), now = _step_of(e.ts, self.step_ms, step)
        cdef int place
        cdef float own, recent
        if now > stands:
            self._decay(row, now - stands)
            stands = now
        updated[0] = max(updated[0], e.ts)
        own, recent = self._factor(stands - now), self._recent_factor(stands - now)
        seq_total[0] += e.seq_weight * own
        co_total[0] += e.amount * own
        place = _place_of(other, self.n_slots, e.other)
        if place < self.n_slots and other[place] == e.other:
            seq[place] += e.seq_weight * own
            co[place] += e.amount * own
            seq_recent[place] += e.seq_weight * recent
            co_recent[place] += e.amount * recent
            return
        if place == self.n_slots:
            place = _weakest(seq, co, self.n_slots)
        other[place], seq[place], co[place] = e.other, e.seq_weight * own, e.amount * own
        seq_recent[place], co_recent[place] = e.seq_weight * recent, e.amount * recent

    cdef void _decay(self, unsigned char *row, int64_t age) noexcept nogil:
        """Make all weights older, by so many steps."""
        cdef float factor = self._factor(age), recent = self._recent_factor(age)
        _times(<float *>(row + self.seq), factor, self.n_slots)
        _times(<float *>(row + self.co), factor, self.n_slots)
        _times(<float *>(row + self.seq_recent), recent, self.n_slots)
        _times(<float *>(row + self.co_recent), recent, self.n_slots)
        (<float *>(row + self.seq_total))[0] *= factor
        (<float *>(row + self.co_total))[0] *= factor


cdef inline void _times(float *x, float factor, int n) noexcept nogil:
    cdef int j
    for j in range(n):
        x[j] *= factor


cdef inline int64_t _step_of(int64_t ts, int64_t step_ms, int64_t *last) noexcept nogil:
    """Return the number of the step of a time. It is often the last one, and divisions are slow."""
    if not 0 <= ts - last[0] * step_ms < step_ms:
        last[0] = ts // step_ms
    return last[0]


cdef inline int _place_of(const uint64_t *other, int n, uint64_t wanted) noexcept nogil:
    """Return the place of a neighbour, else the first free place, else ``n``. ``BLOCK`` places at a time."""
    cdef int j = 0, k
    cdef int here
    while j < n:  # places are filled in order and never emptied: the last of a block says whether one is free
        here = not other[j + BLOCK - 1]
        for k in range(BLOCK):
            here |= other[j + k] == wanted
        if here:
            for k in range(BLOCK):
                if other[j + k] == wanted or not other[j + k]:
                    return j + k
        j += BLOCK
    return n


cdef int _weakest(const float *seq, const float *co, int n) noexcept nogil:
    """Return the first place of the smallest weight."""
    cdef float least[BLOCK]
    cdef float weight, weakest
    cdef int j = BLOCK, k
    for k in range(BLOCK):
        least[k] = seq[k] + co[k]
    while j < n:
        for k in range(BLOCK):
            weight = seq[j + k] + co[j + k]
            least[k] = weight if weight < least[k] else least[k]
        j += BLOCK
    weakest = least[0]
    for k in range(1, BLOCK):
        weakest = least[k] if least[k] < weakest else weakest
    for j in range(n):
        if seq[j] + co[j] == weakest:
            return j
    return 0
