# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Each item of a creator on the list makes the creator's other items weaker, compiled."""

from libc.stdint cimport int64_t, uint64_t

import numpy as np

_NONE = np.zeros(0, np.int64)


cdef class CreatorDecay:
    """Factors of the creators on the list."""

    cdef const uint64_t[::1] _creator
    cdef Py_ssize_t _width
    cdef double _decay, _floor
    cdef dict _factor

    def __init__(self, creator not None, Py_ssize_t width, double decay, double floor):
        self._creator = np.ascontiguousarray(creator, np.uint64)
        if not 0 <= width <= self._creator.shape[0]:
            raise ValueError(f"the best {width} of {self._creator.shape[0]} candidates")
        self._width, self._decay, self._floor, self._factor = width, decay, floor, {}

    @staticmethod
    def of(choices, width, rules):
        if rules.creator_decay == 1 or not choices.creator.any():
            return None
        return CreatorDecay(choices.creator, width, rules.creator_decay, rules.creator_floor)

    def put(self, Py_ssize_t place, double[::1] factors not None):
        cdef uint64_t creator
        cdef double before, now
        cdef Py_ssize_t i, many = 0
        cdef int64_t[::1] to
        cdef bint other = False
        if not 0 <= place < self._creator.shape[0] or factors.shape[0] != self._width:
            raise IndexError(f"candidate {place} of {self._creator.shape[0]}, {factors.shape[0]} factors of {self._width}")
        creator = self._creator[place]
        if not creator:
            return _NONE
        for i in range(self._width):
            if self._creator[i] == creator:
                many += 1
                other = other or i != place
        before = self._factor.get(creator, 1.0)
        now = max(self._floor, before * self._decay)
        self._factor[creator] = now
        if now == before or not other:  # nobody else's factor changes
            return _NONE
        out = np.empty(many, np.int64)
        to, many = out, 0
        for i in range(self._width):
            if self._creator[i] == creator:
                factors[i] *= now / before
                to[many] = i
                many += 1
        return out
