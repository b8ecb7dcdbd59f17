# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Diversity: maximal marginal relevance (Carbonell & Goldstein 1998), compiled."""

import numpy as np

_dot = np.dot


cdef class Mmr:
    """How similar each candidate is to the closest item on the list."""

    def __init__(self, vectors not None, double strength):
        self._weighted = np.float32(strength) * vectors
        self.penalty, self._product = np.zeros(len(vectors), np.float32), np.empty(len(vectors), np.float32)
        self._most, self._now = self.penalty, self._product

    cpdef put(self, vector):
        cdef Py_ssize_t i
        _dot(self._weighted, vector, self._product)
        for i in range(self._most.shape[0]):
            if self._now[i] > self._most[i]:
                self._most[i] = self._now[i]
