# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Ids of texts: SipHash-1-3 of their UTF-8 bytes, compiled."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint64_t

import numpy as np


cdef uint64_t id_of(object text, uint64_t k0, uint64_t k1) except? 1:
    """Return the id of a str: 0 for the empty one, never 0 for another."""
    cdef Py_ssize_t size
    cdef const char *raw = PyUnicode_AsUTF8AndSize(text, &size)
    if size == 0:
        return 0
    return siphash13(<const uint8_t *> raw, <size_t> size, k0, k1) or 1


def id_of_text(str text not None, uint64_t k0, uint64_t k1):
    return id_of(text, k0, k1)


def ids_of_texts(list texts not None, uint64_t k0, uint64_t k1):
    cdef Py_ssize_t i, n = len(texts)
    out = np.empty(n, np.uint64)
    cdef uint64_t[::1] to = out
    for i in range(n):
        to[i] = id_of(texts[i], k0, k1)
    return out
