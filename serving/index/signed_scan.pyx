# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Largest inner products among many rows, compiled: signs say which rows to read (``signs.py``)."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free

import numpy as np

from headrace.serving.index.scan cimport BLOCK, DIM, Best, Rows, begin_best, coarse, cut

cdef enum:
    TABLES = 16  # of four coordinates each
    MOST = 31  # largest value in a table: eight of them fit in a byte
    TOGETHER = 32  # rows in a block of signs
    READ = 64  # rows that are read together

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    __attribute__((target("avx2")))
    static unsigned headrace_reached8(__m128i sums, const float *size, __m256 step, __m256 shift, __m256 base, __m256 least) {
        __m256 s = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums)), step), shift);
        s = _mm256_add_ps(_mm256_mul_ps(s, _mm256_loadu_ps(size)), base);
        return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(s, least, _CMP_GE_OQ));
    }
    /* Bit r: whether row r of 32 may reach the least product. A table is looked up for all rows at once. */
    __attribute__((target("avx2")))
    static unsigned headrace_reached_avx2(
        const unsigned char *signs, const unsigned char *tables, const float *size, float step, float shift, float base,
        float least) {
        const __m256i low = _mm256_set1_epi8(15), bytes = _mm256_set1_epi16(255);
        __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
        for (int half = 0; half < 2; half++) {  /* eight tables: 8 * 31 fits in a byte */
            __m256i signs_sum = _mm256_setzero_si256(), far_sum = _mm256_setzero_si256();
            for (int t = 4 * half; t < 4 * half + 4; t++) {
                const __m256i first = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)tables + 2 * t));
                const __m256i second = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)tables + 2 * t + 1));
                const __m256i x = _mm256_loadu_si256((const __m256i *)signs + t);
                const __m256i y = _mm256_loadu_si256((const __m256i *)signs + 8 + t);
                signs_sum = _mm256_add_epi8(signs_sum, _mm256_add_epi8(
                    _mm256_shuffle_epi8(first, _mm256_and_si256(x, low)),
                    _mm256_shuffle_epi8(second, _mm256_and_si256(_mm256_srli_epi16(x, 4), low))));
                far_sum = _mm256_add_epi8(far_sum, _mm256_add_epi8(
                    _mm256_shuffle_epi8(first, _mm256_and_si256(y, low)),
                    _mm256_shuffle_epi8(second, _mm256_and_si256(_mm256_srli_epi16(y, 4), low))));
            }
            const __m256i signs_even = _mm256_and_si256(signs_sum, bytes), signs_odd = _mm256_srli_epi16(signs_sum, 8);
            even = _mm256_add_epi16(even, _mm256_add_epi16(_mm256_add_epi16(signs_even, signs_even),
                _mm256_and_si256(far_sum, bytes)));
            odd = _mm256_add_epi16(odd, _mm256_add_epi16(_mm256_add_epi16(signs_odd, signs_odd),
                _mm256_srli_epi16(far_sum, 8)));
        }
        __m256i a = _mm256_unpacklo_epi16(even, odd), b = _mm256_unpackhi_epi16(even, odd);
        const __m256 st = _mm256_set1_ps(step), sh = _mm256_set1_ps(shift), ba = _mm256_set1_ps(base),
                     le = _mm256_set1_ps(least);
        return headrace_reached8(_mm256_castsi256_si128(a), size, st, sh, ba, le)
            | headrace_reached8(_mm256_castsi256_si128(b), size + 8, st, sh, ba, le) << 8
            | headrace_reached8(_mm256_extracti128_si256(a, 1), size + 16, st, sh, ba, le) << 16
            | headrace_reached8(_mm256_extracti128_si256(b, 1), size + 24, st, sh, ba, le) << 24;
    }
    __attribute__((target("avx2")))
    static void headrace_read_avx2(const signed char *rows, const long *at, const short *q, int *out, long n) {
        const __m256i q0 = _mm256_loadu_si256((const __m256i *)q), q1 = _mm256_loadu_si256((const __m256i *)q + 1),
                      q2 = _mm256_loadu_si256((const __m256i *)q + 2), q3 = _mm256_loadu_si256((const __m256i *)q + 3);
        for (long i = 0; i < n; i++) {
            const __m128i *p = (const __m128i *)(rows + at[i] * 64);
            __m256i a = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p)), q0);
            __m256i b = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p + 1)), q1);
            __m256i c = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p + 2)), q2);
            __m256i d = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(p + 3)), q3);
            __m256i s = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
            h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
            out[i] = _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
        }
    }
    #define HEADRACE_SIGNS_AVX2 __builtin_cpu_supports("avx2")
    #define headrace_fetch(p) __builtin_prefetch(p)
    #else
    #define headrace_reached_avx2(signs, tables, size, step, shift, base, least) 0
    #define headrace_read_avx2(rows, at, q, out, n)
    #define HEADRACE_SIGNS_AVX2 0
    #define headrace_fetch(p)
    #endif
    static unsigned headrace_reached(
        const unsigned char *signs, const unsigned char *tables, const float *size, float step, float shift, float base,
        float least, int wide) {
        if (wide && HEADRACE_SIGNS_AVX2)
            return headrace_reached_avx2(signs, tables, size, step, shift, base, least);
        unsigned out = 0;
        for (int r = 0; r < 32; r++) {
            int sum = 0;
            for (int k = 0; k < 16; k++) {
                const int t = k & 7;
                const unsigned char both = signs[32 * k + r];
                sum += (k < 8 ? 2 : 1) * (tables[32 * t + (both & 15)] + tables[32 * t + 16 + (both >> 4)]);
            }
            float whole = (float)sum * step;
            whole = whole + shift;
            whole = whole * size[r];
            out |= (unsigned)(whole + base >= least) << r;
        }
        return out;
    }
    static void headrace_read(
        const signed char *rows, const long *at, const short *q, int *out, long n, int wide) {
        if (wide && HEADRACE_SIGNS_AVX2) {
            headrace_read_avx2(rows, at, q, out, n);
            return;
        }
        for (long i = 0; i < n; i++) {
            int total = 0;
            for (int j = 0; j < 64; j++) total += rows[at[i] * 64 + j] * q[j];
            out[i] = total;
        }
    }
    #if defined(__GNUC__)
    #define headrace_lowest(x) __builtin_ctz(x)
    #else
    static int headrace_lowest(unsigned x) { int i = 0; while (!(x >> i & 1)) i++; return i; }
    #endif
    """
    uint32_t _reached "headrace_reached"(
        const uint8_t *signs, const uint8_t *tables, const float *size, float step, float shift, float base, float least,
        bint wide
    ) noexcept nogil
    void _read "headrace_read"(
        const int8_t *rows, const int64_t *at, const int16_t *q, int32_t *out, long n, bint wide
    ) noexcept nogil
    void _fetch "headrace_fetch"(const void *p) noexcept nogil
    int _lowest "headrace_lowest"(uint32_t x) noexcept nogil


cdef struct Query:
    const float *q
    int16_t whole[64]  # the query in 16 bits, and what a product with it is multiplied by
    float unit
    uint8_t tables[256]  # sums of four coordinates by their signs, in units of ``step``
    float step
    float shift
    int64_t at[64]  # rows to be read
    Py_ssize_t waiting


cdef class SignedRows:
    """Rows with the signs of what they differ from the centre of their list."""

    cdef Rows rows
    cdef const uint8_t[:, :, :, ::1] signs
    cdef const float[::1] sizes
    cdef bint wide

    def __init__(self, Rows rows, signs, sizes, bint plain=False):
        self.rows, self.signs, self.sizes, self.wide = rows, signs, sizes, not plain
        blocks = (rows.n + TOGETHER - 1) // TOGETHER
        if signs.shape != (blocks, 2, 8, TOGETHER) or len(sizes) != blocks * TOGETHER:
            raise ValueError(f"{rows.n} rows, blocks of signs {signs.shape}, {len(sizes)} sizes")

    def nearest(
        self, query, turned, begins, ends, centres, Py_ssize_t k, Py_ssize_t wide, int64_t most, float margin
    ):
        cdef const float[::1] q = np.ascontiguousarray(query, np.float32)
        cdef const float[::1] around = np.ascontiguousarray(turned, np.float32)
        cdef const int64_t[::1] begin = np.ascontiguousarray(begins, np.int64)
        cdef const int64_t[::1] end = np.ascontiguousarray(ends, np.int64)
        cdef const float[::1] centre = np.ascontiguousarray(centres, np.float32)
        cdef int64_t following, seen = 0
        cdef Py_ssize_t i
        cdef Query asked
        cdef Best best
        if not DIM == q.shape[0] == around.shape[0] or centre.shape[0] != begin.shape[0]:
            raise ValueError(f"a query of {q.shape[0]} and {around.shape[0]}, {centre.shape[0]} centres")
        self.rows.check(begin, end)
        begin_best(&best, max(wide, k))
        try:
            with nogil:
                asked.q, asked.waiting = &q[0], 0
                asked.unit = coarse(&q[0], asked.whole)
                _tables(&around[0], margin, &asked)
                for i in range(begin.shape[0]):
                    if seen >= most:
                        break
                    following = begin[i + 1] // TOGETHER if i + 1 < begin.shape[0] else -1
                    self._scan(&asked, begin[i], end[i], centre[i], following, &best)
                    seen += end[i] - begin[i]
                self._take(&asked, &best)
            return self.rows.taken(&q[0], &best, k)
        finally:
            free(best.keys)

    cdef void _scan(
        self, Query *asked, int64_t begin, int64_t end, float centre, int64_t following, Best *best
    ) noexcept nogil:
        """Read those rows of a list that may be among the best.

        The signs of the next list, from block ``following`` on, are fetched meanwhile.
        """
        cdef int64_t block, first
        cdef uint32_t reached
        cdef int r
        if begin >= end:
            return
        for block in range(begin // TOGETHER, (end - 1) // TOGETHER + 1):
            first = block * TOGETHER
            if 0 <= following < self.signs.shape[0]:
                for r in range(8):
                    _fetch(<const char *>&self.signs[following, 0, 0, 0] + 64 * r)
                _fetch(&self.sizes[following * TOGETHER])
                _fetch(&self.sizes[following * TOGETHER + 16])
                following += 1
            reached = _reached(
                &self.signs[block, 0, 0, 0], asked.tables, &self.sizes[first], asked.step, asked.shift, centre,
                best.product * asked.unit, self.wide,
            )
            if first < begin:
                reached &= <uint32_t>0xFFFFFFFF << (begin - first)
            if first + TOGETHER > end:
                reached &= <uint32_t>0xFFFFFFFF >> (first + TOGETHER - end)
            while reached:
                r = _lowest(reached)
                reached &= reached - 1
                _fetch(&self.rows.high[first + r, 0])
                _fetch(&self.rows.scale[first + r])
                asked.at[asked.waiting] = first + r
                asked.waiting += 1
                if asked.waiting == READ:
                    self._take(asked, best)

    cdef void _take(self, Query *asked, Best *best) noexcept nogil:
        """Read the rows that wait."""
        cdef int32_t products[READ]
        cdef Py_ssize_t i
        _read(&self.rows.high[0, 0], asked.at, asked.whole, products, asked.waiting, self.wide)
        for i in range(asked.waiting):
            self.rows.add(asked.at[i], <float>products[i] * self.rows.scale[asked.at[i]], best)
        asked.waiting = 0
        if best.size >= 2 * best.wide:
            cut(best)


cdef void _tables(const float *q, float margin, Query *asked) noexcept nogil:
    """Sum each four coordinates under all their signs, in steps from the smallest sum; at most ``MOST``."""
    cdef float sums[256]
    cdef float low[TABLES]
    cdef float largest = 0
    cdef int t, s, j
    asked.shift = margin
    for t in range(TABLES):
        low[t] = 0
        for s in range(16):
            sums[16 * t + s] = 0
            for j in range(4):
                sums[16 * t + s] += q[4 * t + j] if s >> j & 1 else -q[4 * t + j]
            low[t] = min(low[t], sums[16 * t + s])
        asked.shift += 3 * low[t]
        largest = max(largest, -2 * low[t])  # the largest sum is the smallest with the other sign
    asked.step = largest / MOST if largest > 0 else 1
    for t in range(TABLES):
        for s in range(16):
            asked.tables[16 * t + s] = <uint8_t>min(<float>MOST, (sums[16 * t + s] - low[t]) / asked.step + <float>0.5)
