# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which leaves rows fall into, found by bits: for trees with at most 32 leaves, compiled."""

from libc.stdint cimport int32_t, uint32_t

import numpy as np

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define headrace_lowest_bit(v) __builtin_ctz(v)
    typedef unsigned int headrace_bits __attribute__((vector_size(32), aligned(4), may_alias));
    typedef float headrace_values __attribute__((vector_size(32), aligned(4), may_alias));
    #define HEADRACE_VECTORS 1
    #else
    static int headrace_lowest_bit(unsigned int v) { int n = 0; while (!(v & 1)) { v >>= 1; n++; } return n; }
    #endif

    /* Write the leaves of a tree that each of 32 rows can still reach: its own is the lowest one.
       Compiled a second time for processors with AVX2: several times as fast there. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static void headrace_reach(const float *turned, const int *columns, const float *thresholds,
                               const unsigned int *masks, long first, long last, unsigned int *bits) {
    #ifdef HEADRACE_VECTORS
        headrace_bits none = {0}, a = ~none, b = a, c = a, d = a;
        for (long k = first; k < last; k++) {
            const headrace_values *column = (const headrace_values *)(turned + 32 * (long)columns[k]);
            headrace_values least = thresholds[k] - (headrace_values){0};
            headrace_bits mask = masks[k] | none;
            a &= mask | (headrace_bits)(column[0] <= least);
            b &= mask | (headrace_bits)(column[1] <= least);
            c &= mask | (headrace_bits)(column[2] <= least);
            d &= mask | (headrace_bits)(column[3] <= least);
        }
        headrace_bits *out = (headrace_bits *)bits;
        out[0] = a; out[1] = b; out[2] = c; out[3] = d;
    #else
        for (int r = 0; r < 32; r++) bits[r] = 0xFFFFFFFFu;
        for (long k = first; k < last; k++)
            for (int r = 0; r < 32; r++)
                bits[r] &= masks[k] | -(unsigned int)(turned[32 * (long)columns[k] + r] <= thresholds[k]);
    #endif
    }
    """
    int headrace_lowest_bit(uint32_t v) nogil
    void _bits "headrace_reach"(
        const float *turned, const int32_t *columns, const float *thresholds, const uint32_t *masks,
        long first, long last, uint32_t *bits
    ) noexcept nogil

cdef enum:
    BLOCK = 32  # rows whose bits are made side by side, by vector instructions
    LEAVES = 32


cdef void _check(
    const float[:, ::1] x, const int32_t[::1] columns, const float[::1] thresholds, const uint32_t[::1] masks,
    const int32_t[::1] bounds, Py_ssize_t places
) except *:
    cdef Py_ssize_t i, m = columns.shape[0], trees = bounds.shape[0] - 1
    if not m == thresholds.shape[0] == masks.shape[0] or trees < 0 or places != LEAVES * trees:
        raise ValueError("arrays differ in length")
    for i in range(m):
        if not 0 <= columns[i] < x.shape[1]:
            raise ValueError("a node reads a column that does not exist")
        if not masks[i] >> (LEAVES - 1):
            raise ValueError("the last place is never taken away, so that a leaf is left")
    if bounds[0] != 0 or bounds[trees] != m:
        raise ValueError("every node must be of a tree")
    for i in range(trees):
        if bounds[i] > bounds[i + 1]:
            raise ValueError("the trees must be one after the other")


cdef inline void _turn(const float *x, Py_ssize_t width, Py_ssize_t rows, float *turned) noexcept nogil:
    """Write rows as columns of ``BLOCK``."""
    cdef Py_ssize_t r, c
    for r in range(rows):
        for c in range(width):
            turned[c * BLOCK + r] = x[r * width + c]


def bit_sums(
    const float[:, ::1] x not None,
    const int32_t[::1] columns not None,
    const float[::1] thresholds not None,
    const uint32_t[::1] masks not None,
    const int32_t[::1] bounds not None,
    const double[::1] values not None,
):
    cdef Py_ssize_t n = x.shape[0], trees = bounds.shape[0] - 1, start, rows, t, r
    cdef uint32_t bits[BLOCK]
    _check(x, columns, thresholds, masks, bounds, values.shape[0])
    out, room = np.zeros(n), np.zeros(max(1, BLOCK * x.shape[1]), np.float32)
    cdef double[::1] total = out
    cdef float[::1] turned = room
    if not n or not columns.shape[0]:
        out += np.asarray(values)[::LEAVES].sum()
        return out
    with nogil:
        for start in range(0, n, 32):
            rows = min(<Py_ssize_t>BLOCK, n - start)
            _turn(&x[start, 0], x.shape[1], rows, &turned[0])
            for t in range(trees):
                _bits(&turned[0], &columns[0], &thresholds[0], &masks[0], bounds[t], bounds[t + 1], bits)
                for r in range(rows):
                    total[start + r] += values[LEAVES * t + headrace_lowest_bit(bits[r])]
    return out


def bit_leaves(
    const float[:, ::1] x not None,
    const int32_t[::1] columns not None,
    const float[::1] thresholds not None,
    const uint32_t[::1] masks not None,
    const int32_t[::1] bounds not None,
    const int32_t[::1] nodes not None,
):
    cdef Py_ssize_t n = x.shape[0], trees = bounds.shape[0] - 1, start, rows, t, r
    cdef uint32_t bits[BLOCK]
    _check(x, columns, thresholds, masks, bounds, nodes.shape[0])
    out, room = np.empty((n, trees), np.int32), np.zeros(max(1, BLOCK * x.shape[1]), np.float32)
    cdef int32_t[:, ::1] found = out
    cdef float[::1] turned = room
    if not n or not columns.shape[0]:
        out[:] = np.asarray(nodes)[::LEAVES]
        return out
    with nogil:
        for start in range(0, n, 32):
            rows = min(<Py_ssize_t>BLOCK, n - start)
            _turn(&x[start, 0], x.shape[1], rows, &turned[0])
            for t in range(trees):
                _bits(&turned[0], &columns[0], &thresholds[0], &masks[0], bounds[t], bounds[t + 1], bits)
                for r in range(rows):
                    found[start + r, t] = nodes[LEAVES * t + headrace_lowest_bit(bits[r])]
    return out
