# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""An open hash table of keys in memory that the caller has: which place has a key first."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset


cdef struct KeyTable:
    uint64_t *key
    int32_t *place  # of the first one with this key, from 1 on; 0: free
    uint64_t mask
    int shift


cdef inline int bits_for(Py_ssize_t n) noexcept nogil:
    """Return for how many bits a table of ``n`` keys has slots: at most half of them are taken."""
    cdef int bits = 3
    while (<Py_ssize_t> 1 << bits) < 2 * n:
        bits += 1
    return bits


cdef inline void empty_table(KeyTable *t, uint64_t *key, int32_t *place, int bits) noexcept nogil:
    """Begin a table in ``key`` and ``place``, of ``1 << bits`` slots each."""
    t.key, t.place, t.mask, t.shift = key, place, (<uint64_t> 1 << bits) - 1, 64 - bits
    memset(place, 0, (<size_t> 1 << bits) * sizeof(int32_t))


cdef inline uint64_t slot_of(const KeyTable *t, uint64_t key) noexcept nogil:
    """Return the slot of a key, or the free one where it belongs."""
    cdef uint64_t at = (key * <uint64_t> 0x9E3779B97F4A7C15) >> t.shift
    while t.place[at] and t.key[at] != key:
        at = (at + 1) & t.mask
    return at


cdef inline int64_t first_place(KeyTable *t, uint64_t key, int64_t place) noexcept nogil:
    """Put a key that is at ``place``; return the place where it was first."""
    cdef uint64_t at = slot_of(t, key)
    if not t.place[at]:
        t.key[at], t.place[at] = key, <int32_t> (place + 1)
    return t.place[at] - 1


cdef inline int64_t place_of(const KeyTable *t, uint64_t key) noexcept nogil:
    """Return where a key was first; -1: nowhere."""
    return <int64_t> t.place[slot_of(t, key)] - 1
