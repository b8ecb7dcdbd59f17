# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Sums of hashed terms, compiled; see ``hashed.py``."""

from libc.stdint cimport uint64_t

import numpy as np

cdef extern from *:
    """
    #define HEADRACE_ODD_CROSSED 0x9E3779B97F4A7C15ULL
    #define HEADRACE_ODD_USER 0xC2B2AE3D27D4EB4FULL
    #define HEADRACE_ODD_ITEM 0x165667B19E3779F9ULL
    #define HEADRACE_ODD_DEVICE 0x27D4EB2F165667C5ULL
    #define HEADRACE_FIRST 0xBF58476D1CE4E5B9ULL
    #define HEADRACE_SECOND 0x94D049BB133111EBULL
    """
    const uint64_t OF_CROSSED "HEADRACE_ODD_CROSSED"
    const uint64_t OF_USER "HEADRACE_ODD_USER"
    const uint64_t OF_ITEM "HEADRACE_ODD_ITEM"
    const uint64_t OF_DEVICE "HEADRACE_ODD_DEVICE"
    const uint64_t FIRST "HEADRACE_FIRST"
    const uint64_t SECOND "HEADRACE_SECOND"


cdef inline uint64_t _mixed(uint64_t x) noexcept nogil:
    x = (x ^ (x >> 30)) * FIRST
    x = (x ^ (x >> 27)) * SECOND
    return x ^ (x >> 31)


def term_sums(
    const float[::1] table not None, const uint64_t[::1] users not None, const uint64_t[:] items not None,
    const uint64_t[::1] countries not None, const uint64_t[::1] devices not None, int bits
):
    cdef Py_ssize_t i, n = items.shape[0]
    cdef bint one_user = users.shape[0] == 1, one_country = countries.shape[0] == 1, one_device = devices.shape[0] == 1
    cdef int shift = 64 - bits
    cdef uint64_t crossed, device
    if not 0 < bits < 32 or table.shape[0] != 1 << bits:
        raise ValueError(f"a table of {table.shape[0]} slots, {bits} bits")
    for given in (users.shape[0], countries.shape[0], devices.shape[0]):
        if given not in (1, n):
            raise ValueError(f"{given} ids for {n} items")
    out = np.empty(n, np.float32)
    cdef float[::1] total = out
    with nogil:
        for i in range(n):
            crossed = _mixed(items[i] + OF_CROSSED)
            device = devices[0 if one_device else i] + OF_DEVICE
            total[i] = (
                (table[_mixed(users[0 if one_user else i] + OF_USER) >> shift]
                 + table[_mixed(items[i] + OF_ITEM) >> shift])
                + table[_mixed(crossed ^ countries[0 if one_country else i]) >> shift]
            ) + table[_mixed(crossed ^ device) >> shift]
    return out
