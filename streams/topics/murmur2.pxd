# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""murmur2, the hash of Kafka's default partitioner, for compiled loops."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy


cdef inline uint32_t murmur2(const uint8_t *key, size_t size) noexcept nogil:
    """Return the hash of a key, as Kafka's Java client computes it (little-endian machines)."""
    cdef uint32_t m = 0x5BD1E995, h = 0x9747B28CU ^ <uint32_t> size, k
    cdef size_t at = 0
    while at + 4 <= size:
        memcpy(&k, key + at, 4)
        k *= m
        k ^= k >> 24
        k *= m
        h = (h * m) ^ k
        at += 4
    if size > at:
        k = 0
        memcpy(&k, key + at, size - at)
        h = (h ^ k) * m
    h ^= h >> 13
    h *= m
    return h ^ (h >> 15)


cdef inline uint32_t partition_of(const uint8_t *key, size_t size, uint32_t partitions) noexcept nogil:
    """Return the partition of a key, as Kafka's default partitioner does."""
    return (murmur2(key, size) & 0x7FFFFFFF) % partitions
