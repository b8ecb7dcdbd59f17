# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Places of candidates by a value, for compiled loops."""

from libc.stdint cimport int32_t, uint32_t

cdef struct One:
    uint32_t value  # of a positive float, its bits are in the order of the floats
    int32_t place

cdef void ranks_into(const float *score, Py_ssize_t n, float *rank, One *room) noexcept nogil
