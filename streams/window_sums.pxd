# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Values of windows, for compiled loops: the buckets of one tier of a row added up."""

from libc.stdint cimport int64_t, uint32_t

from headrace.streams.tables.row_bytes cimport RowBytes

cdef enum:
    MAX_TIERS = 8
    MAX_METRICS = 64

cdef struct Tier:
    int64_t low_at, high_at, head_at  # bytes from the row's start
    int64_t bucket_ms, high_width  # width 0: there is no high part
    uint32_t ring


cdef class WindowSums:
    cdef Tier tiers[MAX_TIERS]
    cdef int n_tiers, n_metrics
    cdef Py_ssize_t size

    cdef int fits(self, RowBytes data) except -1
    cdef int64_t bucket(self, int t, int64_t now) noexcept nogil
    cdef void sums(
        self, const char *row, int t, int64_t now_bucket, int64_t buckets, Py_ssize_t first, Py_ssize_t n, float *out
    ) noexcept nogil
    cdef void _fetch_tier(self, const char *row, int t) noexcept nogil
