# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Gaussian vectors drawn from keys, compiled: the numbers that numpy's generators draw."""

from libc.math cimport exp
from libc.stdint cimport uint32_t, uint64_t

from math import erfc, log, pi, sqrt
from math import exp as exp_of

cdef extern from "math.h" nogil:
    float log1pf(float x)

cdef extern from *:
    """
    static inline uint64_t high_half(uint64_t a, uint64_t b) {
        return (uint64_t) (((unsigned __int128) a * b) >> 64);
    }
    """
    uint64_t high_half(uint64_t a, uint64_t b) nogil

cdef enum:
    STRIPS = 256

cdef float R = 3.6541528853610087963519472518
cdef float ONE_OVER_R = 0.27366123732975827203338247596

cdef float[STRIPS] width  # of a strip, for each of the 2**23 steps of a draw
cdef float[STRIPS] height  # of the density where the strip ends
cdef uint32_t[STRIPS] inside  # a draw below is under the density for certain


def _fill_tables():
    """Compute the strips of the ziggurat (Marsaglia and Tsang 2000) that numpy has as constants."""
    r = 3.6541528853610087963519472518
    area = r * exp_of(-r * r / 2) + sqrt(pi / 2) * erfc(r / sqrt(2))
    ends = [0.0] * STRIPS
    ends[STRIPS - 1] = r
    for i in range(STRIPS - 1, 1, -1):
        ends[i - 1] = sqrt(-2 * log(area / ends[i] + exp_of(-ends[i] ** 2 / 2)))
    ends[0] = area / exp_of(-r * r / 2)
    for i in range(STRIPS):
        width[i] = <float> (ends[i] / 2.0 ** 23)
        height[i] = <float> (exp_of(-ends[i] ** 2 / 2) if i else 1.0)
        inside[i] = round((ends[i - 1] if i > 1 else 0.0) / ends[i] * 2.0 ** 23)
    inside[0] = round(r / ends[0] * 2.0 ** 23)


_fill_tables()


cdef struct Stream:
    uint64_t key
    uint64_t counter
    uint64_t[4] words
    int used  # halves of words


cdef void _refill(Stream *stream) noexcept nogil:
    """Draw four words: Philox4x64 with ten rounds (Salmon et al. 2011)."""
    cdef uint64_t k0 = stream.key, k1 = 0, a, b = 0, c = 0, d = 0, hi0, lo0, hi1, lo1
    cdef int i
    stream.counter += 1
    a = stream.counter
    for i in range(10):
        lo0, hi0 = a * <uint64_t> 0xD2E7470EE14C6C93ULL, high_half(a, 0xD2E7470EE14C6C93ULL)
        lo1, hi1 = c * <uint64_t> 0xCA5A826395121157ULL, high_half(c, 0xCA5A826395121157ULL)
        a, b, c, d = hi1 ^ b ^ k0, lo1, hi0 ^ d ^ k1, lo0
        k0, k1 = k0 + <uint64_t> 0x9E3779B97F4A7C15ULL, k1 + <uint64_t> 0xBB67AE8584CAA73BULL
    stream.words[0], stream.words[1], stream.words[2], stream.words[3] = a, b, c, d
    stream.used = 0


cdef inline uint32_t _next(Stream *stream) noexcept nogil:
    """Return the next 32 bits: the low half of a word, then its high half."""
    cdef uint64_t word
    if stream.used == 8:
        _refill(stream)
    word = stream.words[stream.used >> 1]
    if stream.used & 1:
        word >>= 32
    stream.used += 1
    return <uint32_t> word


cdef inline float _uniform(Stream *stream) noexcept nogil:
    return <float> (_next(stream) >> 8) * <float> (1.0 / 16777216.0)


cdef float _tail(Stream *stream, uint32_t steps) noexcept nogil:
    """Draw a number beyond the strips."""
    cdef float x, y
    while True:
        x = -ONE_OVER_R * log1pf(-_uniform(stream))
        y = -log1pf(-_uniform(stream))
        if y + y > x * x:
            return -(R + x) if (steps >> 8) & 1 else R + x


cdef float _normal(Stream *stream) noexcept nogil:
    cdef uint32_t bits, steps
    cdef int strip
    cdef float x, y
    while True:
        bits = _next(stream)
        strip, steps = bits & 0xFF, (bits >> 9) & 0x7FFFFF
        x = <float> steps * width[strip]
        if (bits >> 8) & 1:
            x = -x
        if steps < inside[strip]:
            return x
        if strip == 0:
            return _tail(stream, steps)
        y = (height[strip - 1] - height[strip]) * _uniform(stream) + height[strip]
        if y < exp(-0.5 * x * x):
            return x


def gaussian_rows(const uint64_t[::1] keys not None, float[:, ::1] out not None, float scale):
    cdef Py_ssize_t i, j
    cdef Stream stream
    if out.shape[0] != keys.shape[0]:
        raise ValueError("there must be a row for each key")
    with nogil:
        for i in range(keys.shape[0]):
            stream.key, stream.counter, stream.used = keys[i], 0, 8
            for j in range(out.shape[1]):
                out[i, j] = _normal(&stream) / scale
