"""What other compiled code uses of ``creator_decay.pyx``."""

from libc.stdint cimport int64_t, uint64_t


cdef class CreatorDecay:
    cdef const uint64_t[::1] _creator
    cdef Py_ssize_t _width
    cdef double _decay, _floor
    cdef dict _factor

    cdef Py_ssize_t weaken(self, Py_ssize_t place, double *factors, int64_t *changed) except -1
