# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Largest inner products among quantised rows, compiled: a pass over int8, then 16 bits for the best."""

from libc.float cimport FLT_MAX
from libc.math cimport fabsf, lrintf
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

import numpy as np

cdef enum:
    DIM = 64
    BLOCK = 256  # rows whose products are computed before any is compared
    REACH = 32_000  # largest value of a coordinate of the query: 64 * 127 * 32000 fits in 32 bits

    MOST_REGIONS = 1024

cdef extern from *:
    """
    /* Compiled a second time for processors with AVX2: twice as fast there. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static void headrace_products(const signed char *rows, const short *q, int *out, long n) {
        for (long i = 0; i < n; i++) {
            int total = 0;
            for (int j = 0; j < 64; j++) total += rows[i * 64 + j] * q[j];
            out[i] = total;
        }
    }
    """
    void _products "headrace_products"(const int8_t *rows, const int16_t *q, int32_t *out, long n) noexcept nogil


cdef struct Found:
    float product
    int64_t row


cdef class Rows:
    """Quantised rows: the high and low bytes of their vectors and what they are multiplied by."""

    cdef const int8_t[:, ::1] high, low
    cdef const float[::1] scale
    cdef uint8_t[::1] dead
    cdef readonly Py_ssize_t n

    def __init__(self, high, low, scale, dead):
        self.high, self.low, self.scale, self.dead, self.n = high, low, scale, dead, len(scale)
        if not len(high) == len(low) == self.n or len(dead) * 8 < self.n or high.shape[1] != DIM or low.shape[1] != DIM:
            raise ValueError(
                f"{high.shape} high bytes, {low.shape} low bytes, {self.n} scales, {len(dead)} bytes of marks: "
                f"one row of {DIM} bytes each and one mark an item are needed"
            )

    def nearest(self, query, begins, ends, Py_ssize_t k, Py_ssize_t wide, int64_t most):
        cdef const float[::1] q = np.ascontiguousarray(query, np.float32)
        cdef const int64_t[::1] begin = np.ascontiguousarray(begins, np.int64)
        cdef const int64_t[::1] end = np.ascontiguousarray(ends, np.int64)
        cdef int16_t coarse[DIM]
        cdef Py_ssize_t i, size = 0
        cdef int64_t seen = 0
        cdef Found *heap
        if q.shape[0] != DIM or begin.shape[0] != end.shape[0]:
            raise ValueError(f"a query of {q.shape[0]}, {begin.shape[0]} begins, {end.shape[0]} ends")
        for i in range(begin.shape[0]):
            if not 0 <= begin[i] <= end[i] <= self.n:
                raise ValueError(f"rows {begin[i]} to {end[i]} of {self.n}")
        wide = max(1, wide, k)
        heap = <Found *> malloc(wide * sizeof(Found))
        if heap == NULL:
            raise MemoryError()
        try:
            with nogil:
                _coarse(&q[0], coarse)
                for i in range(begin.shape[0]):
                    if seen >= most:
                        break
                    size = self._scan(coarse, begin[i], end[i], heap, size, wide)
                    seen += end[i] - begin[i]
                for i in range(size):
                    heap[i].product = self._product(&q[0], heap[i].row)
                _sort(heap, size)
            size = max(0, min(size, k))
            rows, products = np.empty(size, np.int64), np.empty(size, np.float32)
            _copy(heap, rows, products)
        finally:
            free(heap)
        return rows, products

    cdef Py_ssize_t _scan(
        self, const int16_t *q, int64_t begin, int64_t end, Found *heap, Py_ssize_t size, Py_ssize_t wide
    ) noexcept nogil:
        """Put the best of a range of rows into the heap, least product first; return its size."""
        cdef int32_t products[BLOCK]
        cdef int64_t i, n, at = begin
        cdef float product
        while at < end:
            n = min(<int64_t>BLOCK, end - at)
            _products(&self.high[at, 0], q, products, n)
            for i in range(n):
                product = <float>products[i] * self.scale[at + i]
                if size == wide and not _less(heap[0].product, heap[0].row, product, at + i):
                    continue
                if self.scale[at + i] == 0 or self.dead[(at + i) >> 3] >> ((at + i) & 7) & 1:
                    continue
                if size < wide:
                    size += 1
                    _rise(heap, size - 1, product, at + i)
                else:
                    _sink(heap, 0, size, product, at + i)
            at += n
        return size

    cdef float _product(self, const float *q, int64_t row) noexcept nogil:
        cdef const int8_t *high = &self.high[row, 0]
        cdef const int8_t *low = &self.low[row, 0]
        cdef float part[8]  # eight sums at once
        cdef int i, j
        for i in range(8):
            part[i] = 0
        for j in range(DIM // 8):
            for i in range(8):
                part[i] += <float>(<int>high[8 * j + i] * 256 + low[8 * j + i]) * q[8 * j + i]
        for i in range(1, 8):
            part[0] += part[i]
        return part[0] * self.scale[row]


cdef class Directions:
    """Rows in regions, to find the nearest of many rows."""

    cdef const int8_t[:, ::1] rows, regions
    cdef const float[::1] scale, region_scale
    cdef const int64_t[::1] starts

    def __init__(self, rows, scale, regions, region_scale, starts):
        self.rows, self.scale, self.starts = rows, scale, starts
        self.regions, self.region_scale = regions, region_scale
        if not DIM == rows.shape[1] == regions.shape[1] or len(rows) != len(scale):
            raise ValueError(f"rows {rows.shape}, {len(scale)} scales, regions {regions.shape}")
        if not 0 < len(regions) == len(region_scale) == len(starts) - 1 <= MOST_REGIONS:
            raise ValueError(f"{len(regions)} regions, {len(region_scale)} scales, {len(starts)} starts")
        last = self.starts[len(regions)]
        if self.starts[0] != 0 or last != len(rows) or (np.diff(starts) <= 0).any():
            raise ValueError(f"regions from {self.starts[0]} to {last} of {len(rows)} rows, or empty ones")

    def nearest_of(self, high, low, Py_ssize_t near):
        cdef const int8_t[:, ::1] above = high
        cdef const int8_t[:, ::1] below = low
        cdef Py_ssize_t i, n = above.shape[0]
        if below.shape[0] != n or not DIM == above.shape[1] == below.shape[1]:
            raise ValueError(f"high bytes {high.shape}, low bytes {low.shape}")
        out = np.zeros(n, np.int32)
        cdef int32_t[::1] nearest = out
        near = max(1, min(near, self.regions.shape[0]))
        with nogil:
            for i in range(n):
                nearest[i] = self._nearest(&above[i, 0], &below[i, 0], near)
        return out

    cdef int32_t _nearest(self, const int8_t *high, const int8_t *low, Py_ssize_t near) noexcept nogil:
        """Find the row nearest to a vector, in the ``near`` regions nearest to it."""
        cdef int16_t whole[DIM]
        cdef int32_t products[MOST_REGIONS]
        cdef float by_region[MOST_REGIONS]
        cdef Found best
        cdef Py_ssize_t j, region, count = self.regions.shape[0]
        for j in range(DIM):
            whole[j] = <int16_t>(<int>high[j] * 256 + low[j])
        _products(&self.regions[0, 0], whole, products, count)
        for j in range(count):
            by_region[j] = <float>products[j] * self.region_scale[j]
        best.product, best.row = -FLT_MAX, 0
        for _ in range(near):
            region = 0
            for j in range(1, count):
                if by_region[j] > by_region[region]:
                    region = j
            by_region[region] = -FLT_MAX
            self._improve(&best, whole, self.starts[region], self.starts[region + 1])
        return <int32_t>best.row

    cdef void _improve(self, Found *best, const int16_t *q, int64_t at, int64_t end) noexcept nogil:
        """Replace the best row by a better one of a range."""
        cdef int32_t products[BLOCK]
        cdef int64_t j, n
        while at < end:
            n = min(<int64_t>BLOCK, end - at)
            _products(&self.rows[at, 0], q, products, n)
            for j in range(n):
                if <float>products[j] * self.scale[at + j] > best.product:
                    best.product, best.row = <float>products[j] * self.scale[at + j], at + j
            at += n


cdef void _coarse(const float *q, int16_t *out) noexcept nogil:
    """Round a query to 16 bits, its largest coordinate to ``REACH``. Only the order of products matters."""
    cdef float largest = 0
    cdef int j
    for j in range(DIM):
        largest = max(largest, fabsf(q[j]))
    for j in range(DIM):
        out[j] = <int16_t>lrintf(q[j] / largest * REACH) if largest > 0 else 0


cdef inline bint _less(float product, int64_t row, float other, int64_t its_row) noexcept nogil:
    """Return whether a row is worse than another: a smaller product, or the same and a smaller number."""
    return product < other or (product == other and row < its_row)


cdef void _rise(Found *heap, Py_ssize_t at, float product, int64_t row) noexcept nogil:
    """Put an entry at the free place ``at``, the last one, or where it belongs above it."""
    cdef Py_ssize_t parent
    while at > 0:
        parent = (at - 1) >> 1
        if _less(heap[parent].product, heap[parent].row, product, row):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at].product, heap[at].row = product, row


cdef void _sink(Found *heap, Py_ssize_t at, Py_ssize_t size, float product, int64_t row) noexcept nogil:
    """Put an entry in place of the one at ``at``, or where it belongs below it."""
    cdef Py_ssize_t child = 2 * at + 1
    while child < size:
        if child + 1 < size and _less(
            heap[child + 1].product, heap[child + 1].row, heap[child].product, heap[child].row
        ):
            child += 1
        if _less(product, row, heap[child].product, heap[child].row):
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at].product, heap[at].row = product, row


cdef void _sort(Found *heap, Py_ssize_t size) noexcept nogil:
    """Sort in place, largest product first."""
    cdef Py_ssize_t i
    cdef Found last
    for i in range(size // 2 - 1, -1, -1):
        _sink(heap, i, size, heap[i].product, heap[i].row)
    for i in range(size - 1, 0, -1):
        last = heap[i]
        heap[i] = heap[0]
        _sink(heap, 0, i, last.product, last.row)


cdef void _copy(const Found *heap, int64_t[::1] rows, float[::1] products) noexcept:
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        rows[i], products[i] = heap[i].row, heap[i].product
