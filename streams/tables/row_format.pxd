# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""One row as bytes.

Most bytes of a row are zero: buckets without events, empty places. A packed row is

    a bit for each 8-byte word that is not zero, then for each of those: a bit for each byte, those bytes

or the row itself, where packing would not make it shorter.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset


cdef inline int ones(uint8_t mask) noexcept nogil:
    """Return how many bits are set."""
    mask = mask - ((mask >> 1) & 0x55)
    mask = (mask & 0x33) + ((mask >> 2) & 0x33)
    return (mask + (mask >> 4)) & 0x0F


cdef inline uint64_t word_at(const char *row, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """Return the word at ``at``, the last one of a row filled up with zeros."""
    cdef uint64_t word = 0
    if at + 8 <= size:
        memcpy(&word, row + at, 8)
    else:
        memcpy(&word, row + at, size - at)
    return word


cdef inline Py_ssize_t pack_row(const char *row, Py_ssize_t size, uint8_t *out) noexcept nogil:
    """Pack a row; return its length. ``out`` has room for ``size + size / 8 + 8`` bytes."""
    cdef Py_ssize_t at, n_mask = (size + 63) // 64
    cdef uint8_t *to = out + n_mask
    cdef uint8_t *end = out + size
    cdef uint8_t *mask
    cdef uint8_t bits, byte
    cdef uint64_t word
    cdef int j
    memset(out, 0, n_mask)
    for at in range(0, size, 8):
        word = word_at(row, at, size)
        if not word:
            continue
        out[at >> 6] |= <uint8_t> (1 << (at >> 3 & 7))
        mask = to
        to += 1
        bits = 0
        for j in range(8):  # without a branch: the CPU could not guess which bytes are zero
            byte = <uint8_t> (word >> 8 * j)
            to[0] = byte
            bits |= <uint8_t> ((byte != 0) << j)
            to += byte != 0
        mask[0] = bits
        if to >= end:
            memcpy(out, row, size)
            return size
    return to - out


cdef inline bint is_packed_row(const uint8_t *packed, Py_ssize_t length, Py_ssize_t size,
                               Py_ssize_t want_a, uint64_t *a, Py_ssize_t want_b, uint64_t *b) noexcept nogil:
    """Return whether ``packed`` is a row of ``size`` bytes; read the words at two places of it.

    A place of -1 is not read. Places are multiples of 8.
    """
    cdef Py_ssize_t k, word, n_mask = (size + 63) // 64, at = n_mask
    cdef uint8_t bits, left
    cdef uint64_t value
    cdef int j
    a[0] = b[0] = 0
    if length == size:
        if want_a >= 0:
            a[0] = word_at(<const char *> packed, want_a, size)
        if want_b >= 0:
            b[0] = word_at(<const char *> packed, want_b, size)
        return True
    if length > size or length < n_mask:
        return False
    for k in range(n_mask):
        left = packed[k]
        word = k * 64
        while left:
            if left & 1:
                if word >= size or at >= length:
                    return False
                bits = packed[at]
                at += 1
                if size - word < 8 and bits >> (size - word):
                    return False
                if at + ones(bits) > length:
                    return False
                if word == want_a or word == want_b:
                    value = 0
                    for j in range(8):
                        if bits >> j & 1:
                            value |= <uint64_t> packed[at] << 8 * j
                            at += 1
                    if word == want_a:
                        a[0] = value
                    if word == want_b:
                        b[0] = value
                else:
                    at += ones(bits)
            left >>= 1
            word += 8
    return at == length


cdef inline void unpack_row(const uint8_t *packed, Py_ssize_t length, char *row, Py_ssize_t size) noexcept nogil:
    """Unpack a row that ``is_packed_row`` accepted."""
    cdef Py_ssize_t k, n_mask = (size + 63) // 64
    cdef const uint8_t *at = packed + n_mask
    cdef char *word
    cdef uint8_t left, bits
    cdef int j
    if length == size:
        memcpy(row, packed, size)
        return
    memset(row, 0, size)
    for k in range(n_mask):
        left = packed[k]
        word = row + k * 64
        while left:
            if left & 1:
                bits = at[0]
                at += 1
                if bits == 0xFF:
                    memcpy(word, at, 8)
                    at += 8
                else:
                    j = 0
                    while bits:
                        if bits & 1:
                            word[j] = at[0]
                            at += 1
                        bits >>= 1
                        j += 1
            left >>= 1
            word += 8
