# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Largest inner products among quantised rows, compiled: a pass over int8, then 16 bits for the best."""

from libc.float cimport FLT_MAX
from libc.math cimport fabsf, lrintf
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

import numpy as np

cdef enum:
    MOST_REGIONS = 1024

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    /* Eight rows at once: sums of products of neighbours, then of the eight parts of each row. */
    __attribute__((target("avx2")))
    static long headrace_products_avx2(const signed char *rows, const short *q, int *out, long n) {
        const __m256i q0 = _mm256_loadu_si256((const __m256i *)q), q1 = _mm256_loadu_si256((const __m256i *)q + 1),
                      q2 = _mm256_loadu_si256((const __m256i *)q + 2), q3 = _mm256_loadu_si256((const __m256i *)q + 3);
        long i = 0;
        for (; i + 8 <= n; i += 8) {
            __m256i s[8];
            for (int r = 0; r < 8; r++) {
                const __m128i *p = (const __m128i *)(rows + (i + r) * 64);
                __m256i a = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p)), q0);
                __m256i b = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p + 1)), q1);
                __m256i c = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p + 2)), q2);
                __m256i d = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p + 3)), q3);
                s[r] = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            }
            __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
            __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(s[4], s[5]), _mm256_hadd_epi32(s[6], s[7]));
            __m256i sums = _mm256_add_epi32(
                _mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
            _mm256_storeu_si256((__m256i *)(out + i), sums);
        }
        return i;
    }
    /* Which of eight rows at a time have at least this product; the rest is left to the caller. */
    __attribute__((target("avx2")))
    static long headrace_reach_avx2(const int *products, const float *scale, float least, short *at, long n, long *done) {
        const __m256 bound = _mm256_set1_ps(least);
        long i = 0, found = 0;
        for (; i + 8 <= n; i += 8) {
            __m256 whole = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(products + i)));
            __m256 here = _mm256_mul_ps(whole, _mm256_loadu_ps(scale + i));
            int mask = _mm256_movemask_ps(_mm256_cmp_ps(here, bound, _CMP_GE_OQ));
            for (; mask; mask &= mask - 1) at[found++] = (short)(i + __builtin_ctz(mask));
        }
        *done = i;
        return found;
    }
    #define HEADRACE_AVX2 __builtin_cpu_supports("avx2")
    #else
    #define headrace_products_avx2(rows, q, out, n) 0
    #define headrace_reach_avx2(products, scale, least, at, n, done) 0
    #define HEADRACE_AVX2 0
    #endif
    static void headrace_products(const signed char *rows, const short *q, int *out, long n) {
        long i = HEADRACE_AVX2 ? headrace_products_avx2(rows, q, out, n) : 0;
        for (; i < n; i++) {
            int total = 0;
            for (int j = 0; j < 64; j++) total += rows[i * 64 + j] * q[j];
            out[i] = total;
        }
    }
    /* Write which of n rows have at least this product, in their order; return how many. */
    static long headrace_reach(const int *products, const float *scale, float least, short *at, long n) {
        long i = 0, found = 0;
        if (HEADRACE_AVX2) found = headrace_reach_avx2(products, scale, least, at, n, &i);
        for (; i < n; i++)
            if ((float)products[i] * scale[i] >= least) at[found++] = (short)i;
        return found;
    }
    """
    void _products "headrace_products"(const int8_t *rows, const int16_t *q, int32_t *out, long n) noexcept nogil
    long _reach "headrace_reach"(
        const int32_t *products, const float *scale, float least, int16_t *at, long n
    ) noexcept nogil


cdef class Rows:
    """Quantised rows: the high and low bytes of their vectors and what they are multiplied by."""

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
        cdef int16_t whole[DIM]
        cdef Py_ssize_t i
        cdef int64_t seen = 0
        cdef Best best
        if q.shape[0] != DIM:
            raise ValueError(f"a query of {q.shape[0]}")
        self.check(begin, end)
        begin_best(&best, max(wide, k))
        try:
            with nogil:
                coarse(&q[0], whole)
                for i in range(begin.shape[0]):
                    if seen >= most:
                        break
                    self._scan(whole, begin[i], end[i], &best)
                    seen += end[i] - begin[i]
            return self.taken(&q[0], &best, k)
        finally:
            free(best.rows)

    cdef int check(self, const int64_t[::1] begin, const int64_t[::1] end) except -1:
        """Raise ``ValueError`` unless these are ranges of rows here."""
        cdef Py_ssize_t i
        if begin.shape[0] != end.shape[0]:
            raise ValueError(f"{begin.shape[0]} begins, {end.shape[0]} ends")
        for i in range(begin.shape[0]):
            if not 0 <= begin[i] <= end[i] <= self.n:
                raise ValueError(f"rows {begin[i]} to {end[i]} of {self.n}")
        return 0

    cdef tuple taken(self, const float *q, Best *best, Py_ssize_t k):
        """Return the ``k`` best rows and their products in 16 bits, best first."""
        cdef Py_ssize_t i, size
        with nogil:
            cut(best)
            for i in range(best.size):
                best.rows[i].product = self._product(q, best.rows[i].row)
            _sort(best.rows, best.size)
        size = max(0, min(best.size, k))
        rows, products = np.empty(size, np.int64), np.empty(size, np.float32)
        _copy(best.rows, rows, products)
        return rows, products

    cdef void _scan(self, const int16_t *q, int64_t begin, int64_t end, Best *best) noexcept nogil:
        """Add those of a range of rows that may be among the best."""
        cdef int32_t products[BLOCK]
        cdef int16_t reaching[BLOCK]
        cdef int64_t i, j, n, n_reaching, at = begin
        while at < end:
            n = min(<int64_t>BLOCK, end - at)
            _products(&self.high[at, 0], q, products, n)
            n_reaching = _reach(products, &self.scale[at], best.least.product, reaching, n)
            for j in range(n_reaching):
                i = at + reaching[j]
                self.add(i, <float>products[reaching[j]] * self.scale[i], best)
            if best.size >= 2 * best.wide:
                cut(best)
            at += n

    cdef void add(self, int64_t row, float product, Best *best) noexcept nogil:
        """Add a row that can be found and may be among the best; at most ``BLOCK`` between two cuts."""
        if self.scale[row] == 0 or self.dead[row >> 3] >> (row & 7) & 1:
            return
        if _less(product, row, best.least.product, best.least.row):
            return
        best.rows[best.size].product, best.rows[best.size].row = product, row
        best.size += 1

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


cdef int begin_best(Best *best, Py_ssize_t wide) except -1:
    """Make room for the best ``wide`` rows; ``best.rows`` is to be freed."""
    best.size, best.wide = 0, max(1, wide)
    best.least.product, best.least.row = -FLT_MAX, -1
    best.rows = <Found *> malloc((2 * best.wide + BLOCK) * sizeof(Found))
    if best.rows == NULL:
        raise MemoryError()
    return 0


cdef float coarse(const float *q, int16_t *out) noexcept nogil:
    """Round a query to 16 bits, its largest coordinate to ``REACH``. Only the order of products matters.

    Return what a product of high bytes with it is multiplied by to be that of the vectors.
    """
    cdef float largest = 0
    cdef int j
    for j in range(DIM):
        largest = max(largest, fabsf(q[j]))
    for j in range(DIM):
        out[j] = <int16_t>lrintf(q[j] / largest * REACH) if largest > 0 else 0
    return 256 * largest / REACH


cdef inline bint _less(float product, int64_t row, float other, int64_t its_row) noexcept nogil:
    """Return whether a row is worse than another: a smaller product, or the same and a smaller number."""
    return product < other or (product == other and row < its_row)


cdef void cut(Best *best) noexcept nogil:
    """Leave the best ``wide`` rows, in no order, and note the worst of them (quickselect)."""
    cdef Found *rows = best.rows
    cdef Found pivot, other
    cdef Py_ssize_t i, j, low = 0, high = best.size - 1
    if best.size < best.wide:
        return
    while low < high:
        pivot = rows[(low + high) >> 1]
        i, j = low, high
        while i <= j:  # better ones to the left
            while _less(pivot.product, pivot.row, rows[i].product, rows[i].row):
                i += 1
            while _less(rows[j].product, rows[j].row, pivot.product, pivot.row):
                j -= 1
            if i <= j:
                other = rows[i]
                rows[i] = rows[j]
                rows[j] = other
                i += 1
                j -= 1
        if best.wide - 1 <= j:
            high = j
        elif best.wide - 1 >= i:
            low = i
        else:
            break
    best.size, best.least = best.wide, rows[0]
    for i in range(1, best.size):
        if _less(rows[i].product, rows[i].row, best.least.product, best.least.row):
            best.least = rows[i]


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
