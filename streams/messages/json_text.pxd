# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Reads JSON, for compiled loops. A function that is not certain returns NULL; then another decoder decides.

Each takes the place to read from and the end of the text, and returns the place after what it has read. None
reads at or after the end.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from *:
    int __builtin_ctzll(unsigned long long) noexcept nogil


cdef struct Text:
    # the bytes between two quotes, and their number of characters
    const uint8_t *at
    Py_ssize_t size
    Py_ssize_t characters


cdef enum:
    DEEPEST = 8  # values within values that are skipped
    DIGITS = 18  # of a number: it fits into int64


cdef inline const uint8_t *after_space(const uint8_t *at, const uint8_t *end) noexcept nogil:
    while at < end and (at[0] == 0x20 or at[0] == 0x0A or at[0] == 0x0D or at[0] == 0x09):
        at += 1
    return at


cdef inline bint begins(const uint8_t *at, const uint8_t *end, const char *word, Py_ssize_t size) noexcept nogil:
    """Return whether the text begins with a word."""
    return end - at >= size and not memcmp(at, word, size)


cdef inline bint _tail(const uint8_t *at, const uint8_t *end, int n, uint8_t least, uint8_t most) noexcept nogil:
    """Return whether ``n`` bytes continue a character; the first of them is from ``least`` to ``most``."""
    cdef int i
    if end - at < n or not least <= at[0] <= most:
        return False
    for i in range(1, n):
        if at[i] & 0xC0 != 0x80:
            return False
    return True


cdef inline int _wide(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Return the bytes of a character that is not ASCII, 0 when it is not UTF-8 (RFC 3629)."""
    cdef uint8_t first = at[0]
    at += 1
    if first < 0xC2:
        return 0
    if first < 0xE0:
        return 2 if _tail(at, end, 1, 0x80, 0xBF) else 0
    if first < 0xF0:  # not the long form of a shorter one, not a surrogate
        return 3 if _tail(at, end, 2, 0xA0 if first == 0xE0 else 0x80, 0x9F if first == 0xED else 0xBF) else 0
    if first < 0xF5:  # at most U+10FFFF
        return 4 if _tail(at, end, 3, 0x90 if first == 0xF0 else 0x80, 0x8F if first == 0xF4 else 0xBF) else 0
    return 0


cdef inline uint64_t _unusual(uint64_t word) noexcept nogil:
    """Return a mark in the highest bit of the first byte that is a quote, a backslash, control or not ASCII.

    Bytes after that one may be marked wrongly (little-endian machines: the first byte is the lowest).
    """
    cdef uint64_t ones = 0x0101010101010101ULL, quote = word ^ (ones * 0x22), escape = word ^ (ones * 0x5C)
    cdef uint64_t marks = (word - ones * 0x20) | (quote - ones) & ~quote | (escape - ones) & ~escape
    return (marks & ~word | word) & (ones * 0x80)


cdef inline const uint8_t *_after_usual(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Return the place after characters that are ASCII and stand for themselves, or one at most 7 before it."""
    cdef uint64_t word, marks
    while end - at >= 8:
        memcpy(&word, at, 8)
        marks = _unusual(word)
        if marks:
            return at + (__builtin_ctzll(marks) >> 3)
        at += 8
    return at


cdef inline const uint8_t *read_text(const uint8_t *at, const uint8_t *end, Text *to) noexcept nogil:
    """Read a string without escapes."""
    cdef Py_ssize_t behind = 0  # bytes of characters after their first
    cdef int size
    if at >= end or at[0] != c'"':
        return NULL
    at += 1
    to.at = at
    while True:
        at = _after_usual(at, end)
        if at >= end:
            return NULL
        if at[0] == c'"':
            to.size = at - to.at
            to.characters = to.size - behind
            return at + 1
        if at[0] < 0x20 or at[0] == c'\\':
            return NULL
        if at[0] < 0x80:
            at += 1
            continue
        size = _wide(at, end)
        if not size:
            return NULL
        at += size
        behind += size - 1


cdef inline const uint8_t *read_whole(const uint8_t *at, const uint8_t *end, int64_t *to) noexcept nogil:
    """Read a whole number that is not negative: digits alone. What follows them must be looked at."""
    cdef const uint8_t *start = at
    cdef int64_t number = 0
    while at < end and c'0' <= at[0] <= c'9':
        if at - start == DIGITS:
            return NULL
        number = 10 * number + (at[0] - c'0')
        at += 1
    if at == start or (start[0] == c'0' and at - start > 1):
        return NULL
    to[0] = number
    return at


cdef inline const uint8_t *skip_number(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Skip a number without an exponent."""
    cdef int64_t number
    cdef const uint8_t *start
    if at < end and at[0] == c'-':
        at += 1
    at = read_whole(at, end, &number)
    if at == NULL or at >= end or at[0] != c'.':
        return at
    at += 1
    start = at
    while at < end and at - start < DIGITS and c'0' <= at[0] <= c'9':
        at += 1
    return at if at > start else NULL


cdef inline const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Skip a value that is neither an object nor an array."""
    cdef Text text
    if at >= end:
        return NULL
    if at[0] == c'"':
        return read_text(at, end, &text)
    if begins(at, end, b"true", 4) or begins(at, end, b"null", 4):
        return at + 4
    if begins(at, end, b"false", 5):
        return at + 5
    return skip_number(at, end)
