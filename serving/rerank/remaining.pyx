# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which candidates are not on a list yet, and what each of the best ones would add to it, compiled."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from headrace.serving.rerank.creator_decay cimport CreatorDecay
from headrace.serving.rerank.mmr cimport Mmr

import numpy as np


cdef class Remaining:
    """Candidates in the order of their scores."""

    cdef readonly object open, factors
    cdef char[::1] _open
    cdef double[::1] _numbers, _factors
    cdef double *_relevance
    cdef double *_up
    cdef double *_down
    cdef double _zero
    cdef Py_ssize_t _width
    cdef int64_t[::1] _changed

    def __init__(self, const double[:] scores not None, Py_ssize_t width, double weight):
        cdef Py_ssize_t i, m = scores.shape[0]
        cdef double low, reach, scale
        if not 0 < width <= m:
            raise ValueError(f"the best {width} of {m} candidates")
        self.open, self.factors = np.ones(m, np.bool_), np.ones(width)
        self._open, self._factors, self._width = self.open.view(np.int8), self.factors, width
        self._numbers, self._changed = np.empty(3 * m), np.empty(width, np.int64)
        self._up, self._down, self._relevance = &self._numbers[0], &self._numbers[m], &self._numbers[2 * m]
        low = scores[width - 1]
        reach = scores[0] - low
        scale = weight / (reach if reach else 1.0)
        self._zero = low * scale
        for i in range(m):
            self._up[i] = max(scores[i], 0.0) * scale
            self._down[i] = min(scores[i], 0.0) * scale
            self._relevance[i] = self._up[i] + self._down[i] - self._zero

    def best(self, penalty, allowed=None):
        cdef const char[::1] may = self._open if allowed is None else allowed.view(np.int8)
        if may.shape[0] != self._open.shape[0]:
            raise ValueError(f"{may.shape[0]} marks for {self._open.shape[0]} candidates")
        return self._best(penalty, may)

    cdef Py_ssize_t _best(self, penalty, const char[::1] may) except -1:
        cdef const float[::1] less
        if penalty is None:
            return self._found(may, NULL)
        less = penalty
        if less.shape[0] != self._width:
            raise ValueError(f"{less.shape[0]} penalties for {self._width} candidates")
        return self._found(may, &less[0])

    cdef Py_ssize_t _found(self, const char[::1] may, const float *less) noexcept:
        """Return the place of the best that may be chosen."""
        cdef Py_ssize_t i, at = self._largest(may, less, self._width)
        if at < 0:
            at = self._largest(may, NULL, self._open.shape[0])
        if at < 0:  # nothing is finite: the first that may be chosen
            at = 0
            for i in range(may.shape[0]):
                if may[i]:
                    return i
        return at

    def fill(self, int64_t[::1] chosen not None, double[::1] propensity not None, double epsilon, diversifier, decays, near, vector_of):
        cdef Py_ssize_t slot, at, left = 0
        cdef Mmr by_mmr = diversifier if type(diversifier) is Mmr else None
        if propensity.shape[0] != chosen.shape[0]:
            raise ValueError(f"{propensity.shape[0]} propensities for {chosen.shape[0]} slots")
        if by_mmr is not None and by_mmr._most.shape[0] != self._width:
            raise ValueError(f"{by_mmr._most.shape[0]} penalties for {self._width} candidates")
        for slot in range(self._open.shape[0]):
            left += self._open[slot]
        if left < chosen.shape[0]:
            raise ValueError(f"{left} candidates for {chosen.shape[0]} slots")
        for slot in range(chosen.shape[0]):
            if by_mmr is not None:
                at = self._found(self._open, &by_mmr._most[0])
            else:
                at = self._best(None if diversifier is None else diversifier.penalty, self._open)
            chosen[slot] = at
            propensity[slot] = epsilon / (left - slot) + (1 - epsilon)
            self.put(at, diversifier, decays, near, vector_of)

    cpdef put(self, Py_ssize_t place, diversifier, decays, near, vector_of):
        cdef Py_ssize_t i
        self.take(place)
        if diversifier is not None:
            vector = near[place] if place < len(near) else vector_of(place)
            if type(diversifier) is Mmr:
                (<Mmr> diversifier).put(vector)
            else:
                diversifier.put(vector)
        for decay in decays:
            if type(decay) is CreatorDecay:
                if (<CreatorDecay> decay)._width != self._width or place >= (<CreatorDecay> decay)._creator.shape[0]:
                    raise ValueError(f"a decay of {(<CreatorDecay> decay)._width} candidates for {self._width}")
                for i in range((<CreatorDecay> decay).weaken(place, &self._factors[0], &self._changed[0])):
                    self._weaker(self._changed[i])
            else:
                places = decay.put(place, self.factors)
                if len(places):
                    self.weaker(places)

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

    cpdef take(self, Py_ssize_t place):
        if not 0 <= place < self._open.shape[0]:
            raise IndexError(f"candidate {place} of {self._open.shape[0]}")
        self._open[place] = False
        self._down[place] = self._relevance[place] = -INFINITY

    cpdef weaker(self, const int64_t[:] places):
        cdef Py_ssize_t i
        for i in range(places.shape[0]):
            if not 0 <= places[i] < self._width:
                raise IndexError(f"candidate {places[i]} of the best {self._width}")
            self._weaker(places[i])

    cdef inline void _weaker(self, Py_ssize_t at) noexcept:
        cdef double f = self._factors[at]
        self._relevance[at] = self._up[at] * f + self._down[at] / f - self._zero
