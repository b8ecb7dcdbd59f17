"""What other compiled code uses of ``mmr.pyx``."""


cdef class Mmr:
    cdef readonly object penalty
    cdef object _weighted, _product
    cdef float[::1] _most, _now

    cpdef put(self, vector)
