# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A candidate relative to the others of the same list: sums and shares."""


cdef inline float summed(const float *x, Py_ssize_t n) noexcept nogil:
    """Return the sum of numbers, added up pairwise, as numpy does (Higham, "The accuracy of floating point
    summation", SIAM J. Sci. Comput. 14, 1993)."""
    cdef float part[8]
    cdef float out = 0
    cdef Py_ssize_t i, k, half
    if n < 8:
        for i in range(n):
            out += x[i]
        return out
    if n <= 128:
        for k in range(8):
            part[k] = x[k]
        i = 8
        while i < n - n % 8:
            for k in range(8):
                part[k] += x[i + k]
            i += 8
        out = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]))
        while i < n:
            out += x[i]
            i += 1
        return out
    half = n // 2
    half -= half % 8
    return summed(x, half) + summed(x + half, n - half)


cdef inline void share(const float *x, Py_ssize_t n, float *out) noexcept nogil:
    """Write each value as a share of the sum; zeros stay zeros."""
    cdef float total = summed(x, n)
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i] / total if total > 0 else x[i]


cdef inline void smoothed(
    const float *x, const float *towards, float weight, float total, Py_ssize_t n, float *out
) noexcept nogil:
    """Write the shares of the counts ``x`` of ``total``, smoothed towards some shares with a weight in counts."""
    cdef float whole = total + weight
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = (x[i] + weight * towards[i]) / whole
