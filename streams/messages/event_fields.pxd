# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The columns of events, and the verdict on each: for compiled loops."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t


cdef struct Told:
    # what an event says; texts are UTF-8
    const uint8_t *user
    Py_ssize_t user_size
    uint64_t item, event_id, country
    int kind
    int64_t ts
    int64_t dwell_ms  # -1: it does not say
    bint of_creator  # a hide is of everything by the item's creator
    int age  # years; -1: it does not say


cdef class Columns:
    cdef readonly tuple arrays
    cdef uint64_t k0, k1
    cdef int partition, dwell_kind
    cdef uint32_t partitions
    cdef int64_t lateness_ms, future_ms, newest_ms
    cdef uint64_t[::1] user, item, country, event_id
    cdef int8_t[::1] kind
    cdef int64_t[::1] ts, offset, timestamp
    cdef float[::1] dwell_s
    cdef uint8_t[::1] verdict, placed, sent_on, of_creator, age_group

    cdef void put(
        self, Py_ssize_t i, const Told *event, const uint8_t *key, Py_ssize_t key_size, int64_t offset,
        int64_t written,
    ) noexcept nogil
