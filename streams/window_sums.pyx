# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Values of windows: buckets of rows added up, compiled. ``headrace.models.state.counter`` fills the buckets."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define headrace_fetch_row(p) __builtin_prefetch(p)
    #else
    #define headrace_fetch_row(p)
    #endif
    """
    void _fetch "headrace_fetch_row"(const void *p) noexcept nogil

cdef enum:
    AHEAD = 8  # rows that are fetched from memory while earlier ones are read
    LINE = 64


cdef class WindowSums:
    """Adds up the windows of rows of one layout.

    ``tiers`` has a row for each tier: offset of the low parts, of the high parts and of the head, milliseconds
    of a bucket, bytes of a high part (0, 1 or 2), buckets of the ring.
    """

    def __cinit__(self, const int64_t[:, ::1] tiers not None, int n_metrics, Py_ssize_t size):
        cdef int t
        if tiers.shape[0] > MAX_TIERS or not 0 < n_metrics <= MAX_METRICS or tiers.shape[1] != 6:
            raise ValueError(f"at most {MAX_TIERS} tiers of at most {MAX_METRICS} metrics")
        self.n_tiers, self.n_metrics, self.size = <int> tiers.shape[0], n_metrics, size
        for t in range(self.n_tiers):
            _check_tier(tiers[t], n_metrics, size)
            self.tiers[t] = Tier(tiers[t, 0], tiers[t, 1], tiers[t, 2], tiers[t, 3], tiers[t, 4],
                                 <uint32_t> tiers[t, 5])

    cdef int fits(self, RowBytes data) except -1:
        if data.size != self.size:
            raise ValueError(f"rows of {self.size} bytes are wanted, not of {data.size}")
        if (<size_t> data.start | <size_t> data.step) & 1:
            raise ValueError("rows lie at odd addresses")
        return 0

    cdef int64_t bucket(self, int t, int64_t now) noexcept nogil:
        """Return the bucket of a time, ms, in a tier; -1: before all."""
        return now // self.tiers[t].bucket_ms if now >= 0 else -1

    cdef void sums(
        self, const char *row, int t, int64_t now_bucket, int64_t buckets, Py_ssize_t first, Py_ssize_t n, float *out
    ) noexcept nogil:
        """Add up ``n`` metrics from ``first`` on over the buckets in ``(now_bucket - buckets, now_bucket]``."""
        cdef Tier *tier = &self.tiers[t]
        cdef int32_t head
        cdef int64_t newest, oldest, slot, begin
        cdef uint32_t low[MAX_METRICS]
        cdef uint32_t high[MAX_METRICS]
        cdef Py_ssize_t j
        memcpy(&head, row + tier.head_at, 4)
        newest = min(now_bucket, <int64_t> head)
        oldest = max(max(now_bucket - buckets, <int64_t> head - tier.ring) + 1, <int64_t> 0)
        if newest < oldest:
            for j in range(n):
                out[j] = 0
            return
        memset(low, 0, n * 4)
        memset(high, 0, n * 4)
        slot = <uint32_t> newest % tier.ring
        begin = slot - (newest - oldest)
        if begin < 0:  # the rest is at the end of the ring
            _add(row, tier, self.n_metrics, begin + tier.ring, tier.ring, first, n, low, high)
            begin = 0
        _add(row, tier, self.n_metrics, begin, slot + 1, first, n, low, high)
        for j in range(n):
            out[j] = <float> (<uint64_t> low[j] + (<uint64_t> high[j] << 16))

    cdef void _fetch_tier(self, const char *row, int t) noexcept nogil:
        """Begin to fetch what is read of a tier of a row somewhere in memory."""
        cdef Tier *tier = &self.tiers[t]
        cdef Py_ssize_t size = tier.ring * self.n_metrics, at = 0
        _fetch(row + tier.head_at)
        while at < 2 * size:
            _fetch(row + tier.low_at + at)
            at += LINE
        at = 0
        while at < tier.high_width * size:
            _fetch(row + tier.high_at + at)
            at += LINE

    def read(self, data, const int64_t[:, ::1] asked not None, int64_t now, rows=None):
        """Return the windows ``asked``, (tier, buckets) each, of every metric."""
        cdef RowBytes source = RowBytes(data, False)
        cdef const int64_t[::1] where = _chosen(rows, source.n)
        cdef Py_ssize_t i, w, j, m = self.n_metrics, n = source.n if where is None else where.shape[0]
        cdef int64_t row
        self.fits(source)
        out = np.empty((n, asked.shape[0], m), np.float32)
        cdef float[:, :, ::1] o = out
        for w in range(asked.shape[0]):
            if not 0 <= asked[w, 0] < self.n_tiers:
                raise IndexError(f"tier {asked[w, 0]} of {self.n_tiers}")
        for i in range(n):
            row = i if where is None else where[i]
            for w in range(asked.shape[0]):
                if row < 0:
                    for j in range(m):
                        o[i, w, j] = 0
                    continue
                self.sums(source.start + row * source.step, <int> asked[w, 0],
                          self.bucket(<int> asked[w, 0], now), asked[w, 1], 0, m, &o[i, w, 0])
        return out

    def read_one(self, data, int tier, Py_ssize_t metric, int64_t buckets, int64_t now, rows=None):
        """Return the window of the newest ``buckets`` of a tier, of one metric."""
        cdef RowBytes source = RowBytes(data, False)
        cdef const int64_t[::1] where = _chosen(rows, source.n)
        cdef Py_ssize_t i, n = source.n if where is None else where.shape[0]
        cdef int64_t row, now_bucket
        self.fits(source)
        if not (0 <= tier < self.n_tiers and 0 <= metric < self.n_metrics):
            raise IndexError(f"tier {tier} of {self.n_tiers}, metric {metric} of {self.n_metrics}")
        out = np.zeros(n, np.float32)
        cdef float[::1] o = out
        now_bucket = self.bucket(tier, now)
        for i in range(n):
            if where is not None and i + AHEAD < n and where[i + AHEAD] >= 0:
                self._fetch_tier(source.start + where[i + AHEAD] * source.step, tier)
            row = i if where is None else where[i]
            if row >= 0:
                self.sums(source.start + row * source.step, tier, now_bucket, buckets, metric, 1, &o[i])
        return out


cdef inline void _add(
    const char *row, const Tier *tier, int m, int64_t begin, int64_t end, Py_ssize_t first, Py_ssize_t n,
    uint32_t *low, uint32_t *high
) noexcept nogil:
    """Add the slots from ``begin`` on, up to ``end``: low and high parts apart; ``m`` metrics are in a slot."""
    cdef const uint16_t *cells = <const uint16_t *> (row + tier.low_at)
    cdef const uint8_t *bytes_ = <const uint8_t *> (row + tier.high_at)
    cdef int64_t slot
    cdef Py_ssize_t j
    if n == 5:
        _add_five(cells + begin * m + first, m, end - begin, low)
    else:
        _add_cells(cells + begin * m + first, m, end - begin, n, low)
    if tier.high_width == 1:
        if _any(bytes_ + begin * m, (end - begin) * m):
            for slot in range(begin, end):
                for j in range(n):
                    high[j] += bytes_[slot * m + first + j]
    elif tier.high_width == 2:
        _add_cells(<const uint16_t *> bytes_ + begin * m + first, m, end - begin, n, high)


cdef inline void _add_five(const uint16_t *cells, int m, int64_t slots, uint32_t *total) noexcept nogil:
    """Add five metrics of some slots: those of an item. Their sums stay in registers."""
    cdef uint32_t a = 0, b = 0, c = 0, d = 0, e = 0
    while slots > 0:
        a += cells[0]
        b += cells[1]
        c += cells[2]
        d += cells[3]
        e += cells[4]
        cells += m
        slots -= 1
    total[0] += a
    total[1] += b
    total[2] += c
    total[3] += d
    total[4] += e


cdef inline void _add_cells(const uint16_t *cells, int m, int64_t slots, Py_ssize_t n, uint32_t *total) noexcept nogil:
    """Add ``n`` metrics of some slots."""
    cdef uint32_t one
    cdef int64_t slot
    cdef Py_ssize_t j
    for j in range(n):
        one = 0
        for slot in range(slots):
            one += cells[slot * m + j]
        total[j] += one


cdef inline bint _any(const uint8_t *bytes_, Py_ssize_t n) noexcept nogil:
    """Return whether any byte is not 0: most counts have no high part."""
    cdef uint8_t found = 0
    cdef Py_ssize_t i
    for i in range(n):
        found |= bytes_[i]
    return found != 0


cdef _chosen(rows, Py_ssize_t n):
    """Return ``rows`` as int64, checked: from -1, nothing, to ``n - 1``."""
    if rows is None:
        return None
    array = np.ascontiguousarray(rows, np.int64)
    cdef const int64_t[::1] where = array
    cdef Py_ssize_t i
    for i in range(where.shape[0]):
        if where[i] < -1 or where[i] >= n:
            raise IndexError(f"row {where[i]} of {n}")
    return array


cdef int _check_tier(const int64_t[::1] tier, int64_t n_metrics, Py_ssize_t size) except -1:
    """Raise ValueError unless a tier lies inside a row of ``size`` bytes, its 16-bit numbers at even places."""
    cdef int64_t low_at = tier[0], high_at = tier[1], head_at = tier[2]
    cdef int64_t bucket_ms = tier[3], high_width = tier[4], ring = tier[5]
    if (
        bucket_ms < 1 or ring < 1 or not 0 <= high_width <= 2
        or not 0 <= low_at <= size - ring * n_metrics * 2
        or not 0 <= high_at <= size - ring * n_metrics * high_width
        or not 0 <= head_at <= size - 4
        or (low_at | (high_at if high_width == 2 else 0) | size) & 1
    ):
        raise ValueError("a tier lies inside a row, its 16-bit numbers at even places")
    return 0
