# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""SipHash-1-3: a keyed 64-bit hash (Aumasson and Bernstein 2012), for compiled loops."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t _turned(uint64_t x, int by) noexcept nogil:
    return (x << by) | (x >> (64 - by))


cdef inline void _round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = _turned(v[1], 13) ^ v[0]
    v[3] = _turned(v[3], 16) ^ v[2]
    v[0] = _turned(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = _turned(v[1], 17) ^ v[2]
    v[3] = _turned(v[3], 21) ^ v[0]
    v[2] = _turned(v[2], 32)


cdef inline uint64_t siphash13(const uint8_t *text, size_t size, uint64_t k0, uint64_t k1) noexcept nogil:
    """Return the hash of ``size`` bytes under the key ``k0, k1`` (little-endian machines)."""
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef size_t at = 0
    v[0], v[1] = k0 ^ 0x736F6D6570736575ULL, k1 ^ 0x646F72616E646F6DULL
    v[2], v[3] = k0 ^ 0x6C7967656E657261ULL, k1 ^ 0x7465646279746573ULL
    while at + 8 <= size:
        memcpy(&word, text + at, 8)
        v[3] ^= word
        _round(v)
        v[0] ^= word
        at += 8
    word = <uint64_t> size << 56
    memcpy(&word, text + at, size - at)  # at most the lowest seven bytes: the size stays
    v[3] ^= word
    _round(v)
    v[0] ^= word
    v[2] ^= 0xFF
    _round(v)
    _round(v)
    _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef uint64_t id_of(object text, uint64_t k0, uint64_t k1) except? 1
