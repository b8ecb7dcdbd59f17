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

    /* Add the values of the leaves of some trees to the sums of rows, tree after tree. */
    static void headrace_add(const double *values, const unsigned int *bits, long trees, long rows, double *total) {
        if (trees == 4) {
            for (long r = 0; r < rows; r++) {
                double sum = total[r];
                sum += values[headrace_lowest_bit(bits[r])];
                sum += values[32 + headrace_lowest_bit(bits[32 + r])];
                sum += values[64 + headrace_lowest_bit(bits[64 + r])];
                sum += values[96 + headrace_lowest_bit(bits[96 + r])];
                total[r] = sum;
            }
            return;
        }
        for (long t = 0; t < trees; t++)
            for (long r = 0; r < rows; r++)
                total[r] += values[32 * t + headrace_lowest_bit(bits[32 * t + r])];
    }
    """
    int headrace_lowest_bit(uint32_t v) nogil
    void _add "headrace_add"(
        const double *values, const uint32_t *bits, long trees, long rows, double *total
    ) noexcept nogil
    void _bits "headrace_reach"(
        const float *turned, const int32_t *columns, const float *thresholds, const uint32_t *masks,
        long first, long last, uint32_t *bits
    ) noexcept nogil

cdef enum:
    BLOCK = 32  # rows whose bits are made side by side, by vector instructions
    LEAVES = 32
    ADDED = 4  # trees whose values are added at once


cdef void _check(
    const float[:, :] x, const int32_t[::1] columns, const float[::1] thresholds, const uint32_t[::1] masks,
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


cdef const float[:, :, ::1] _turned(const float[:, :] x):
    """Return rows as columns of ``BLOCK``, ``(blocks, width, BLOCK)``; NaN counts as 0."""
    cdef Py_ssize_t block, r, c, rows, n = x.shape[0], width = x.shape[1]
    out = np.zeros(((n + BLOCK - 1) // BLOCK, width, BLOCK), np.float32)
    cdef float[:, :, ::1] turned = out
    cdef float v
    with nogil:
        for block in range(turned.shape[0]):
            rows = min(<Py_ssize_t>BLOCK, n - block * BLOCK)
            for c in range(width):
                for r in range(rows):
                    v = x[block * BLOCK + r, c]
                    turned[block, c, r] = v if v == v else 0
    return out


def bit_sums(x, columns, thresholds, masks, bounds, values):
    return bit_sums_of_each(x, [(columns, thresholds, masks, bounds, values)])[0]


def bit_sums_of_each(const float[:, :] x not None, list each not None):
    cdef const float[:, :, ::1] turned = _turned(x)
    return [_sums(x, turned, *one) for one in each]


def _sums(
    const float[:, :] x not None,
    const float[:, :, ::1] turned not None,
    const int32_t[::1] columns not None,
    const float[::1] thresholds not None,
    const uint32_t[::1] masks not None,
    const int32_t[::1] bounds not None,
    const double[::1] values not None,
):
    cdef Py_ssize_t n = x.shape[0], trees = bounds.shape[0] - 1, start, rows, t, j, some
    cdef uint32_t bits[ADDED * BLOCK]
    _check(x, columns, thresholds, masks, bounds, values.shape[0])
    out = np.zeros(n)
    cdef double[::1] total = out
    if not n or not columns.shape[0]:
        out += np.asarray(values)[::LEAVES].sum()
        return out
    with nogil:
        for start in range(0, n, 32):
            rows = min(<Py_ssize_t>BLOCK, n - start)
            for t in range(0, trees, 4):
                some = min(<Py_ssize_t>ADDED, trees - t)
                for j in range(some):
                    _bits(
                        &turned[start // BLOCK, 0, 0], &columns[0], &thresholds[0], &masks[0], bounds[t + j],
                        bounds[t + j + 1], bits + j * BLOCK
                    )
                _add(&values[LEAVES * t], bits, some, rows, &total[start])
    return out


def bit_leaves(
    const float[:, :] x not None,
    const int32_t[::1] columns not None,
    const float[::1] thresholds not None,
    const uint32_t[::1] masks not None,
    const int32_t[::1] bounds not None,
    const int32_t[::1] nodes not None,
):
    cdef Py_ssize_t n = x.shape[0], trees = bounds.shape[0] - 1, start, rows, t, r
    cdef uint32_t bits[BLOCK]
    _check(x, columns, thresholds, masks, bounds, nodes.shape[0])
    out = np.empty((n, trees), np.int32)
    cdef int32_t[:, ::1] found = out
    cdef const float[:, :, ::1] turned = _turned(x)
    if not n or not columns.shape[0]:
        out[:] = np.asarray(nodes)[::LEAVES]
        return out
    with nogil:
        for start in range(0, n, 32):
            rows = min(<Py_ssize_t>BLOCK, n - start)
            for t in range(trees):
                _bits(
                    &turned[start // BLOCK, 0, 0], &columns[0], &thresholds[0], &masks[0], bounds[t],
                    bounds[t + 1], bits
                )
                for r in range(rows):
                    found[start + r, t] = nodes[LEAVES * t + headrace_lowest_bit(bits[r])]
    return out
