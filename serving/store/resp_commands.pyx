# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Redis commands written in bulk, compiled."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import numpy as np

cdef const char *HEX = b"0123456789abcdef"


def set_commands(const uint8_t[::1] before not None, const uint8_t[::1] after not None,
                 const uint64_t[::1] keys not None, const uint8_t[::1] blob not None,
                 const int64_t[::1] bounds not None):
    cdef Py_ssize_t i, size, left, used = 0, n = keys.shape[0], a = before.shape[0], z = after.shape[0]
    cdef uint64_t key
    cdef uint8_t digits[20]
    cdef int j, n_digits
    if bounds.shape[0] != n + 1:
        raise ValueError(f"{n} keys, {bounds.shape[0] - 1} rows")
    for i in range(n):
        if not bounds[i] <= bounds[i + 1]:
            raise ValueError("bounds rise")
    if not a or not z or bounds[0] < 0 or bounds[n] > blob.shape[0]:
        raise ValueError("bounds lie inside the blob, and commands have a beginning and an end")
    packed = np.empty(n * (a + 16 + 3 + 20 + 2 + z) + bounds[n] - bounds[0], np.uint8)
    cdef uint8_t[::1] out = packed
    for i in range(n):
        memcpy(&out[used], &before[0], a)
        used += a
        key = keys[i]
        for j in range(16):
            out[used + j] = HEX[key >> (60 - 4 * j) & 15]
        used += 16
        out[used], out[used + 1], out[used + 2] = 13, 10, 36  # \r\n$
        used += 3
        size = left = bounds[i + 1] - bounds[i]
        n_digits = 0
        while True:
            digits[n_digits] = <uint8_t> (48 + left % 10)
            left //= 10
            n_digits += 1
            if not left:
                break
        for j in range(n_digits):
            out[used + j] = digits[n_digits - 1 - j]
        used += n_digits
        out[used], out[used + 1] = 13, 10
        used += 2
        if size:
            memcpy(&out[used], &blob[bounds[i]], size)
        used += size
        memcpy(&out[used], &after[0], z)
        used += z
    return packed[:used].data
