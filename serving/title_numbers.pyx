# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Numbers of titles, compiled."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_GET_LENGTH
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

import numpy as np

from headrace.streams.messages.siphash cimport id_of, siphash13


cdef class _Titles:
    """Numbers of titles; the buffer is for one at a time."""

    cdef uint64_t k0, k1
    cdef uint8_t *plain
    cdef Py_ssize_t room, shortest
    cdef object comparable

    def __cinit__(self, comparable, Py_ssize_t shortest, uint64_t k0, uint64_t k1):
        self.comparable, self.shortest, self.k0, self.k1 = comparable, shortest, k0, k1

    def __dealloc__(self):
        free(self.plain)

    cdef uint64_t number(self, str title) except? 1:
        """Return the hash of a title as it is compared; what is done here with ASCII does ``comparable``."""
        cdef Py_ssize_t size, i, used = 0
        cdef const uint8_t *raw = <const uint8_t *> PyUnicode_AsUTF8AndSize(title, &size)
        cdef uint8_t letter
        cdef bint gap = False
        cdef void *more
        if size != PyUnicode_GET_LENGTH(title):  # not ASCII
            return id_of(self.comparable(title), self.k0, self.k1)
        if size > self.room:
            more = realloc(self.plain, 2 * size)
            if more == NULL:
                raise MemoryError
            self.plain, self.room = <uint8_t *> more, 2 * size
        for i in range(size):
            letter = raw[i]
            if letter == 32 or 9 <= letter <= 13 or 28 <= letter <= 31:
                gap = used > 0
                continue
            if gap:
                self.plain[used] = 32
                used, gap = used + 1, False
            self.plain[used] = letter + 32 if 65 <= letter <= 90 else letter
            used += 1
        return siphash13(self.plain, used, self.k0, self.k1) or 1 if used >= self.shortest else 0


def title_numbers(list titles not None, comparable, Py_ssize_t shortest, uint64_t k0, uint64_t k1):
    cdef Py_ssize_t i, n = len(titles)
    cdef _Titles numbers = _Titles(comparable, shortest, k0, k1)
    out = np.empty(n, np.uint32)
    cdef uint32_t[::1] to = out
    for i in range(n):
        to[i] = <uint32_t> numbers.number(titles[i])
    return out
