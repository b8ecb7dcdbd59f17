# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Counts of a row: windows, all-time totals, decayed counts (``counter.pxd``), compiled."""

from libc.stdint cimport int64_t, uint32_t

from headrace.models.state.row_access cimport bytes_of, field_at, rows_of_events

import numpy as np

cdef enum:
    MAX_METRICS = 16

cdef int64_t MOST = <int64_t>1 << 62  # added at once; more would overflow before it is cut to the largest count


cdef class Counter:
    """Adds to the windows, totals and decayed counts of rows of one dtype."""

    def __init__(self, dtype, int metrics, tiers, double half_life_ms, int64_t stand_ms):
        cdef int k
        cdef Plan *p = &self.plan
        if len(tiers) > MAX_TIERS or not 0 < metrics <= MAX_METRICS:
            raise ValueError(f"at most {MAX_TIERS} tiers and {MAX_METRICS} metrics")
        self.size = dtype.itemsize
        p.tiers, p.metrics, p.half_life_ms, p.stand_ms = len(tiers), metrics, half_life_ms, stand_ms
        p.latest = <int64_t>1 << 62
        p.updated = field_at(dtype, "updated", "<i8")
        p.totals = field_at(dtype, "totals", "<u4", (metrics,))
        p.totals_x = field_at(dtype, "totals_x", "u1", (metrics,)) if "totals_x" in dtype.fields else -1
        p.decayed = field_at(dtype, "decayed", "<f8", (metrics,))
        for k, (name, bucket_ms, ring) in enumerate(tiers):
            _plan_tier(p, k, dtype, name, bucket_ms, ring)

    def add(self, data, rows, ts, metric, amount):
        cdef unsigned char[::1] raw = bytes_of(data, self.size)
        cdef const int64_t[::1] where = _int64(rows)
        cdef const int64_t[::1] when = _int64(ts)
        cdef const int64_t[::1] which = _int64(metric)
        cdef const int64_t[::1] much = _int64(amount)
        cdef Py_ssize_t i, n = where.shape[0]
        cdef unsigned char *row
        cdef Plan *p = &self.plan
        cdef Spot spot
        if when.shape[0] != n or which.shape[0] != n or much.shape[0] != n:
            raise ValueError("columns of different lengths do not belong together")
        rows_of_events(where, len(data), n)
        _check(p, when, which, much)
        with nogil:
            for i in range(n):
                row = &raw[0] + where[i] * self.size
                locate(p, when[i], &spot)
                add_amount(row, p, &spot, <int>which[i], min(much[i], MOST), advance_to(row, p, when[i], when[i], &spot))


cdef int _plan_tier(Plan *p, int k, dtype, name, int64_t bucket_ms, uint32_t ring) except -1:
    cdef Tier *t = &p.tier[k]
    cdef int64_t before = p.tier[k - 1].bucket_ms if k else 0
    t.bucket_ms, t.ring = bucket_ms, ring
    t.ratio = bucket_ms // before if before and bucket_ms % before == 0 else 0
    p.latest = min(p.latest, bucket_ms * MAX31)
    t.low = field_at(dtype, f"w_{name}", "<u2", (ring, p.metrics))
    t.head = field_at(dtype, f"h_{name}", "<i4")
    t.high, t.high_size = -1, 0
    if f"x_{name}" in dtype.fields:
        t.high_size = dtype.fields[f"x_{name}"][0].base.itemsize
        t.high = field_at(dtype, f"x_{name}", "u1" if t.high_size == 1 else "<u2", (ring, p.metrics))
    return 0


cdef const int64_t[::1] _int64(values):
    if values.dtype.kind not in "iu":
        raise TypeError(f"whole numbers are wanted, not {values.dtype}")
    return np.ascontiguousarray(values, np.int64)


cdef int _check(
    const Plan *p, const int64_t[::1] ts, const int64_t[::1] metric, const int64_t[::1] amount
) except -1:
    cdef Py_ssize_t i
    for i in range(ts.shape[0]):
        if not 0 <= metric[i] < p.metrics:
            raise IndexError(f"metric {metric[i]} of {p.metrics}")
        if not 0 <= ts[i] <= p.latest:
            raise ValueError(f"ts {ts[i]} is not a time between 0 and {p.latest} ms")
        if amount[i] < 0:
            raise ValueError(f"amount {amount[i]}: counts only grow")
    return 0
