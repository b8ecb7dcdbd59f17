# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which candidates are not on a list yet, and what each of the best ones would add to it, compiled."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

import numpy as np


cdef class Remaining:
    """Candidates in the order of their scores."""

    cdef readonly object open, factors
    cdef char[::1] _open
    cdef double[::1] _relevance, _up, _down, _factors
    cdef double _zero
    cdef Py_ssize_t _width

    def __init__(self, const double[:] scores not None, Py_ssize_t width, double weight):
        cdef Py_ssize_t i, m = scores.shape[0]
        cdef double low, reach, scale
        if not 0 < width <= m:
            raise ValueError(f"the best {width} of {m} candidates")
        self.open, self.factors = np.ones(m, np.bool_), np.ones(width)
        self._open, self._factors, self._width = self.open.view(np.int8), self.factors, width
        self._up, self._down, self._relevance = np.empty((3, m))
        low = scores[width - 1]
        reach = scores[0] - low
        scale = weight / (reach if reach else 1.0)
        self._zero = low * scale
        for i in range(m):
            self._up[i] = max(scores[i], 0.0) * scale
            self._down[i] = min(scores[i], 0.0) * scale
            self._relevance[i] = self._up[i] + self._down[i] - self._zero

    def best(self, penalty, allowed=None):
        cdef const float[::1] less
        cdef const char[::1] may = self._open if allowed is None else allowed.view(np.int8)
        cdef Py_ssize_t i, at
        if may.shape[0] != self._open.shape[0]:
            raise ValueError(f"{may.shape[0]} marks for {self._open.shape[0]} candidates")
        if penalty is None:
            at = self._largest(may, NULL, self._width)
        else:
            less = penalty
            if less.shape[0] != self._width:
                raise ValueError(f"{less.shape[0]} penalties for {self._width} candidates")
            at = self._largest(may, &less[0], self._width)
        if at < 0:
            at = self._largest(may, NULL, self._open.shape[0])
        return at if at >= 0 else int(allowed.argmax()) if allowed is not None else int(self.open.argmax())

    cdef Py_ssize_t _largest(self, const char[::1] may, const float *less, Py_ssize_t n) noexcept:
        """Return the first of the largest among those that may be chosen; -1: none of them adds anything finite."""
        cdef Py_ssize_t i, at = -1
        cdef double worth, most = -INFINITY
        for i in range(n):
            if may[i]:
                worth = self._relevance[i] - less[i] if less != NULL else self._relevance[i]
                if worth > most:
                    most, at = worth, i
        return at

    def take(self, Py_ssize_t place):
        if not 0 <= place < self._open.shape[0]:
            raise IndexError(f"candidate {place} of {self._open.shape[0]}")
        self._open[place] = False
        self._down[place] = self._relevance[place] = -INFINITY

    def weaker(self, const int64_t[:] places not None):
        cdef Py_ssize_t i, at
        cdef double f
        for i in range(places.shape[0]):
            at = places[i]
            if not 0 <= at < self._width:
                raise IndexError(f"candidate {at} of the best {self._width}")
            f = self._factors[at]
            self._relevance[at] = self._up[at] * f + self._down[at] / f - self._zero
