# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Each item of a creator on the list makes the creator's other items weaker, compiled."""

from libc.stdint cimport int64_t, uint64_t

import numpy as np

_NONE = np.zeros(0, np.int64)


cdef class CreatorDecay:
    """Factors of the creators on the list."""

    def __init__(self, creator not None, Py_ssize_t width, double decay, double floor):
        self._creator = np.ascontiguousarray(creator, np.uint64)
        if not 0 <= width <= self._creator.shape[0]:
            raise ValueError(f"the best {width} of {self._creator.shape[0]} candidates")
        self._width, self._decay, self._floor, self._factor = width, decay, floor, {}

    @staticmethod
    def of(choices, width, rules):
        cdef CreatorDecay rule
        cdef Py_ssize_t i
        if rules.creator_decay == 1:
            return None
        rule = CreatorDecay(choices.creator, width, rules.creator_decay, rules.creator_floor)
        for i in range(rule._creator.shape[0]):
            if rule._creator[i]:
                return rule
        return None

    def put(self, Py_ssize_t place, double[::1] factors not None):
        if not 0 <= place < self._creator.shape[0] or factors.shape[0] != self._width:
            raise IndexError(f"candidate {place} of {self._creator.shape[0]}, {factors.shape[0]} factors of {self._width}")
        out = np.empty(self._width, np.int64)
        cdef int64_t[::1] to = out
        return out[:self.weaken(place, &factors[0], &to[0])] if self._width else _NONE

    cdef Py_ssize_t weaken(self, Py_ssize_t place, double *factors, int64_t *changed) except -1:
        """Multiply the factors of the items of this creator, and write their places; return how many they are."""
        cdef uint64_t creator = self._creator[place]
        cdef double before, now
        cdef Py_ssize_t i, many = 0
        cdef bint other = False
        if not creator:
            return 0
        for i in range(self._width):
            if self._creator[i] == creator:
                changed[many] = i
                many += 1
                other = other or i != place
        before = self._factor.get(creator, 1.0)
        now = max(self._floor, before * self._decay)
        self._factor[creator] = now
        if now == before or not other:  # nobody else's factor changes
            return 0
        for i in range(many):
            factors[changed[i]] *= now / before
        return many
