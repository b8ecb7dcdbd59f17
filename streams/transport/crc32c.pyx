# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""CRC-32C (Castagnoli), the checksum of record batches, by the CPU's own instruction where it has one."""

from libc.stdint cimport uint8_t, uint32_t

from aiokafka.record.util import calc_crc32c

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if (defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)))
    #include <nmmintrin.h>
    static int has_crc32c(void) { return __builtin_cpu_supports("sse4.2") != 0; }
    __attribute__((target("sse4.2")))
    static uint32_t go_on(uint32_t crc, const uint8_t *at, size_t n) {
        uint64_t sum = crc, word;
        for (; n >= 8; n -= 8, at += 8) { memcpy(&word, at, 8); sum = _mm_crc32_u64(sum, word); }
        crc = (uint32_t) sum;
        for (; n; n--, at++) crc = _mm_crc32_u8(crc, *at);
        return crc;
    }
    #else
    static int has_crc32c(void) { return 0; }
    static uint32_t go_on(uint32_t crc, const uint8_t *at, size_t n) { (void) at; (void) n; return crc; }
    #endif
    """
    bint has_crc32c() noexcept nogil
    uint32_t go_on(uint32_t crc, const uint8_t *at, size_t n) noexcept nogil

COMPILED = bool(has_crc32c())


def crc32c(const uint8_t[::1] data not None, const uint8_t[::1] more=None):
    cdef uint32_t crc = 0xFFFFFFFF
    if not COMPILED:
        return calc_crc32c(bytes(data) if more is None else bytes(data) + bytes(more))
    if data.shape[0]:
        crc = go_on(crc, &data[0], data.shape[0])
    if more is not None and more.shape[0]:
        crc = go_on(crc, &more[0], more.shape[0])
    return crc ^ <uint32_t> 0xFFFFFFFF
