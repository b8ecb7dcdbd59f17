# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Where a 64-bit key goes in a hash table."""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define HEADRACE_MIX 0x9E3779B97F4A7C15ULL
    """
    const uint64_t MIX "HEADRACE_MIX"  # golden ratio: spreads keys that are not hashes, too

cdef enum:
    MIN_SLOTS = 64  # of an empty table; 64 - MIN_BITS is its shift
    MIN_BITS = 6


cdef inline size_t home_of(uint64_t key, int shift) noexcept nogil:
    """Return the slot where the search for a key begins, in a table of ``2 ** (64 - shift)`` slots.

    Keys have their homes in the same order in tables of every size, so a rebuild goes through memory in order.
    """
    return <size_t> ((key * MIX) >> shift)
