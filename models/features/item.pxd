# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Features of the item: what other features read of its row."""

from libc.stdint cimport uint64_t

cdef uint64_t clicks_of(const char *row) noexcept nogil
