# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rounds many numbers at once, to the same numbers that ``round`` gives, compiled."""

from libc.math cimport fabs, rint

cdef double NEAR = 1e-3  # the product with a power of 10 is off by less, up to ``MOST``
cdef double MOST = 1e12


def rounded(const double[:] values not None, int digits):
    cdef double scale = 10.0**digits, scaled, whole
    cdef Py_ssize_t i
    cdef list out = []
    for i in range(values.shape[0]):
        scaled = values[i] * scale
        whole = rint(scaled)
        if fabs(scaled - whole) < 0.5 - NEAR and fabs(scaled) < MOST:
            out.append(whole / scale)
        else:
            out.append(round(<object> values[i], digits))
    return out
