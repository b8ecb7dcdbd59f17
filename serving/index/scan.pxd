"""What other compiled searches use of ``scan.pyx``: rows, the best of them so far, their order."""

from libc.stdint cimport int8_t, int16_t, int64_t, uint8_t, uint64_t

cdef enum:
    DIM = 64
    BLOCK = 256  # rows whose products are computed before any is compared
    REACH = 32_000  # largest value of a coordinate of the query: 64 * 127 * 32000 fits in 32 bits


cdef struct Best:  # the best rows so far, up to twice as many as wanted, and the worst of those that count
    uint64_t *keys  # by product, then by row; see ``scan.pyx``
    Py_ssize_t size
    Py_ssize_t wide
    uint64_t least
    float product  # of the worst


cdef class Rows:
    cdef const int8_t[:, ::1] high, low
    cdef const float[::1] scale
    cdef uint8_t[::1] dead
    cdef readonly Py_ssize_t n

    cdef void _scan(self, const int16_t *q, int64_t begin, int64_t end, Best *best) noexcept nogil
    cdef void add(self, int64_t row, float product, Best *best) noexcept nogil
    cdef tuple taken(self, const float *q, Best *best, Py_ssize_t k)
    cdef int check(self, const int64_t[::1] begin, const int64_t[::1] end) except -1


cdef int begin_best(Best *best, Py_ssize_t wide) except -1
cdef float coarse(const float *q, int16_t *out) noexcept nogil
cdef void cut(Best *best) noexcept nogil
