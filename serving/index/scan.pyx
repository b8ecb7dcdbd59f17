# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Largest inner products among quantised rows, compiled: a pass over int8, then 16 bits for the best."""

from libc.float cimport FLT_MAX
from libc.math cimport fabsf, lrintf
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

import numpy as np

cdef enum:
    MOST_REGIONS = 1024
    AHEAD = 12  # the low bytes of a row are fetched so many rows before they are read

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
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
    /* Of all 16 bits: eight sums at once, then these in their order, as in the plain loop. */
    __attribute__((target("avx2")))
    static float headrace_exact_avx2(const signed char *high, const signed char *low, const float *q) {
        __m256 sums = _mm256_setzero_ps();
        for (int j = 0; j < 64; j += 8) {
            __m256i h = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(high + j)));
            __m256i l = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(low + j)));
            __m256 whole = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_slli_epi32(h, 8), l));
            sums = _mm256_add_ps(sums, _mm256_mul_ps(whole, _mm256_loadu_ps(q + j)));
        }
        float part[8];
        _mm256_storeu_ps(part, sums);
        for (int i = 1; i < 8; i++) part[0] += part[i];
        return part[0];
    }
    #define HEADRACE_AVX2 __builtin_cpu_supports("avx2")
    #define headrace_fetch(p) __builtin_prefetch(p)
    #else
    #define headrace_fetch(p)
    #define headrace_exact_avx2(high, low, q) 0
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
    static float headrace_exact(const signed char *high, const signed char *low, const float *q) {
        if (HEADRACE_AVX2) return headrace_exact_avx2(high, low, q);
        float part[8] = {0};
        for (int j = 0; j < 64; j += 8)
            for (int i = 0; i < 8; i++) part[i] += (float)(high[j + i] * 256 + low[j + i]) * q[j + i];
        for (int i = 1; i < 8; i++) part[0] += part[i];
        return part[0];
    }
    /* The order of products, then of rows, as one number: the better one is larger. -0 is 0. */
    static uint64_t headrace_key(float product, uint64_t row) {
        uint32_t bits;
        product += 0.0f;
        memcpy(&bits, &product, sizeof bits);
        return (uint64_t)(bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u)) << 32 | row;
    }
    static float headrace_product(uint64_t key) {
        uint32_t bits = (uint32_t)(key >> 32);
        float product;
        bits ^= bits >> 31 ? 0x80000000u : 0xFFFFFFFFu;
        memcpy(&product, &bits, sizeof bits);
        return product;
    }
    /* Bring the largest ``count`` of ``n`` to the front, the smallest of them last (quickselect).
       Every key is swapped, so that no jump depends on them. */
    static void headrace_select(uint64_t *keys, long n, long count) {
        long low = 0, high = n - 1;
        while (low < high) {
            const uint64_t a = keys[low], b = keys[(low + high) / 2], c = keys[high];
            const long at = (a < b) == (b < c) ? (low + high) / 2 : (b < a) == (a < c) ? low : high;
            const uint64_t pivot = keys[at];
            long i = low;
            keys[at] = c;
            for (long j = low; j < high; j++) {
                const uint64_t key = keys[j];
                keys[j] = keys[i];
                keys[i] = key;
                i += key > pivot;
            }
            keys[high] = keys[i];
            keys[i] = pivot;
            if (i == count - 1) return;
            if (i < count - 1) low = i + 1;
            else high = i - 1;
        }
    }
    /* Sort, largest first; ``room`` is for as many (radix sort: no jump depends on the keys). */
    static void headrace_sort(uint64_t *keys, uint64_t *room, long n) {
        uint64_t *from = keys, *to = room;
        for (int shift = 0; shift < 64; shift += 8) {
            long count[256] = {0}, before = 0;
            for (long i = 0; i < n; i++) count[from[i] >> shift & 255]++;
            if (n == 0 || count[from[0] >> shift & 255] == n) continue;
            for (int digit = 255; digit >= 0; digit--) {
                const long here = count[digit];
                count[digit] = before;
                before += here;
            }
            for (long i = 0; i < n; i++) to[count[from[i] >> shift & 255]++] = from[i];
            uint64_t *other = from;
            from = to;
            to = other;
        }
        if (from != keys) memcpy(keys, from, n * sizeof *keys);
    }
    """
    void _products "headrace_products"(const int8_t *rows, const int16_t *q, int32_t *out, long n) noexcept nogil
    long _reach "headrace_reach"(
        const int32_t *products, const float *scale, float least, int16_t *at, long n
    ) noexcept nogil
    float _exact "headrace_exact"(const int8_t *high, const int8_t *low, const float *q) noexcept nogil
    void _fetch "headrace_fetch"(const void *p) noexcept nogil
    uint64_t _key "headrace_key"(float product, uint64_t row) noexcept nogil
    float _product_of "headrace_product"(uint64_t key) noexcept nogil
    void _select "headrace_select"(uint64_t *keys, long n, long count) noexcept nogil
    void _sort "headrace_sort"(uint64_t *keys, uint64_t *room, long n) noexcept nogil


cdef struct Nearest:
    float product
    int64_t row


cdef class Rows:
    """Quantised rows: the high and low bytes of their vectors and what they are multiplied by."""

    def __init__(self, high, low, scale, dead):
        self.high, self.low, self.scale, self.dead, self.n = high, low, scale, dead, len(scale)
        if not len(high) == len(low) == self.n or len(dead) * 8 < self.n or high.shape[1] != DIM or low.shape[1] != DIM:
            raise ValueError(
                f"{high.shape} high bytes, {low.shape} low bytes, {self.n} scales, {len(dead)} bytes of marks: "
                f"one row of {DIM} bytes each and one mark an item are needed"
            )
        if self.n > 0xFFFFFFFF:
            raise ValueError(f"{self.n} rows: there is room for {0xFFFFFFFF}")

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
            free(best.keys)

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
        cdef int64_t row
        with nogil:
            cut(best)
            for i in range(min(<Py_ssize_t>AHEAD, best.size)):
                _fetch(&self.low[_row_of(best.keys[i]), 0])
            for i in range(best.size):
                if i + AHEAD < best.size:
                    _fetch(&self.low[_row_of(best.keys[i + AHEAD]), 0])
                row = _row_of(best.keys[i])
                best.keys[i] = _key(_exact(&self.high[row, 0], &self.low[row, 0], q) * self.scale[row], row)
            size = max(<Py_ssize_t>0, min(best.size, k))
            if 0 < size < best.size:
                _select(best.keys, best.size, size)
            _sort(best.keys, best.keys + best.size, size)
        rows, products = np.empty(size, np.int64), np.empty(size, np.float32)
        _copy(best.keys, rows, products)
        return rows, products

    cdef void _scan(self, const int16_t *q, int64_t begin, int64_t end, Best *best) noexcept nogil:
        """Add those of a range of rows that may be among the best."""
        cdef int32_t products[BLOCK]
        cdef int16_t reaching[BLOCK]
        cdef int64_t i, j, n, n_reaching, at = begin
        while at < end:
            n = min(<int64_t>BLOCK, end - at)
            _products(&self.high[at, 0], q, products, n)
            n_reaching = _reach(products, &self.scale[at], best.product, reaching, n)
            for j in range(n_reaching):
                i = at + reaching[j]
                self.add(i, <float>products[reaching[j]] * self.scale[i], best)
            if best.size >= 2 * best.wide:
                cut(best)
            at += n

    cdef void add(self, int64_t row, float product, Best *best) noexcept nogil:
        """Add a row that can be found and may be among the best; at most ``BLOCK`` between two cuts."""
        cdef uint64_t key = _key(product, row)
        if key < best.least or self.scale[row] == 0 or self.dead[row >> 3] >> (row & 7) & 1:
            return
        best.keys[best.size] = key
        best.size += 1


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
        cdef Nearest best
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

    cdef void _improve(self, Nearest *best, const int16_t *q, int64_t at, int64_t end) noexcept nogil:
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
    """Make room for the best ``wide`` rows; ``best.keys`` is to be freed."""
    best.size, best.wide = 0, max(1, wide)
    best.least, best.product = 0, -FLT_MAX
    best.keys = <uint64_t *> malloc((2 * best.wide + BLOCK) * sizeof(uint64_t))
    if best.keys == NULL:
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


cdef inline int64_t _row_of(uint64_t key) noexcept nogil:
    return <int64_t>(<uint32_t>key)


cdef void cut(Best *best) noexcept nogil:
    """Leave the best ``wide`` rows, in no order, and note the worst of them."""
    if best.size < best.wide:
        return
    _select(best.keys, best.size, best.wide)
    best.size, best.least = best.wide, best.keys[best.wide - 1]
    best.product = _product_of(best.least)


cdef void _copy(const uint64_t *keys, int64_t[::1] rows, float[::1] products) noexcept:
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        rows[i], products[i] = _row_of(keys[i]), _product_of(keys[i])
