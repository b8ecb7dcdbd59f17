# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The feature matrix while compiled loops fill it, and what they share."""

from libc.stdint cimport int32_t, int64_t, uint64_t

from headrace.models.state.key_sets cimport KeyTable
from headrace.streams.tables.row_bytes cimport RowBytes

cdef enum:
    MOST = 24  # columns of one function

cdef enum Spread:
    EACH  # a number for each candidate
    BY_CATEGORY
    ONE  # the same for all


cdef struct Wanted:
    Py_ssize_t column
    Py_ssize_t at  # where its arguments begin
    Spread spread


cdef class Logs:
    """The arguments of one function of numpy for several columns: it is called once for all of them.

    numpy's own code for vectors may differ from a C library in the last bit, and is faster.
    """

    cdef object function, given
    cdef char *start
    cdef Py_ssize_t size, used, room
    cdef Wanted wanted[MOST]
    cdef int count

    cdef void *of(self, Columns m, Py_ssize_t column, Spread spread) except NULL
    cdef int fill(self, Columns m) except -1


cdef class Columns:
    """The feature matrix, column after column; the categories of the candidates; logs that wait.

    Attributes
    ----------
    array
        float32 ``(len(SPEC), n)``, zeros at first.
    n, groups
        Candidates, and categories that they are in, those without one among them as a category of its own.
    group
        The category of each candidate, numbered as they come first, int32 ``(n,)``.
    keys
        The hash of each category, 0: none.
    logs, wide_logs, plain_logs
        Arguments of ``log1p`` in float32 and in float64, and of ``log`` in float32.
    usual_view
        log1p of the mean seconds of a view of the candidates; 0: none of them was viewed.
    """

    cdef readonly object array
    cdef float *at
    cdef Py_ssize_t n, groups
    cdef int32_t *group
    cdef uint64_t *keys
    cdef void *room
    cdef void *room_for_ranks
    cdef double *sums  # two for each group
    cdef float *numbers  # five for each candidate
    cdef float usual_view
    cdef KeyTable table
    cdef Logs logs, wide_logs, plain_logs

    cdef int64_t group_of(self, uint64_t key) noexcept
    cdef void _number(self, const uint64_t[:] keys, int32_t *number) noexcept
    cdef float *column(self, Py_ssize_t column) noexcept
    cdef void set_all(self, Py_ssize_t column, float value) noexcept
    cdef void set_groups(self, Py_ssize_t column, const float *values) noexcept
    cdef float *log1p_of(self, Py_ssize_t column, Spread spread=*) except NULL
    cdef double *wide_log1p_of(self, Py_ssize_t column, Spread spread=*) except NULL
    cdef float *log_of(self, Py_ssize_t column, Spread spread=*) except NULL
    cdef int rank(self, Py_ssize_t column, const float *score) except -1


cdef RowBytes rows_like(data, dtype, Py_ssize_t n)
cdef const float[:] floats(values, Py_ssize_t n)
cdef const uint64_t[:] hashes(values, Py_ssize_t n)
