# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The feature matrix while compiled loops fill it, and what they share."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc

from headrace.models.features.places cimport One, ranks_into
from headrace.models.state.key_sets cimport bits_for, empty_table, first_place, place_of
from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

from headrace.models.features.spec import SPEC

cdef Py_ssize_t WIDTH = len(SPEC)


cdef class Logs:
    def __cinit__(self, function, dtype, Py_ssize_t room):
        self.function, self.given, self.room = function, np.empty(room, dtype), room
        self.size = self.given.itemsize
        cdef char[::1] raw = self.given.view(np.int8)
        self.start = &raw[0]

    cdef void *of(self, Columns m, Py_ssize_t column, Spread spread) except NULL:
        """Return where the arguments of a column go."""
        cdef Py_ssize_t n = m.n if spread == EACH else m.groups if spread == BY_CATEGORY else 1
        if self.count == MOST or self.used + n > self.room:
            raise MemoryError("there is no room for the logs of so many columns")
        cdef Wanted *wanted = &self.wanted[self.count]
        wanted.column, wanted.at, wanted.spread = column, self.used, spread
        self.count += 1
        self.used += n
        return self.start + wanted.at * self.size

    cdef int fill(self, Columns m) except -1:
        """Fill the columns. What is in one of them already, and is not 0, stays."""
        cdef const double[::1] wide
        cdef const float[::1] narrow
        cdef int k
        found = self.function(self.given[: self.used])
        if self.size == sizeof(float):
            narrow = found
            for k in range(self.count):
                _spread(m, &self.wanted[k], &narrow[0] + self.wanted[k].at)
        else:
            wide = found
            for k in range(self.count):
                _spread_wide(m, &self.wanted[k], &wide[0] + self.wanted[k].at)
        self.count = 0
        return 0


cdef void _spread(Columns m, const Wanted *wanted, const float *found) noexcept:
    cdef float *to = m.column(wanted.column)
    cdef Py_ssize_t i
    if wanted.spread == ONE:
        m.set_all(wanted.column, found[0])
    elif wanted.spread == BY_CATEGORY:
        m.set_groups(wanted.column, found)
    else:
        for i in range(m.n):
            to[i] = found[i]


cdef void _spread_wide(Columns m, const Wanted *wanted, const double *found) noexcept:
    cdef float *to = m.column(wanted.column)
    cdef Py_ssize_t i
    if wanted.spread == ONE:
        m.set_all(wanted.column, <float> found[0])
    else:
        for i in range(m.n):
            if to[i] == 0:
                to[i] = <float> found[i]


cdef class Columns:
    def __cinit__(self, category):
        cdef const uint64_t[:] keys = np.asarray(category, np.uint64)
        cdef Py_ssize_t i, n = keys.shape[0]
        cdef int bits = bits_for(n)
        self.n = n
        self.array = np.zeros((WIDTH, n), np.float32)
        cdef float[:, ::1] matrix = self.array
        self.at = &matrix[0, 0]
        self.room = malloc(
            (<size_t> 1 << bits) * (sizeof(uint64_t) + sizeof(int32_t))
            + n * (sizeof(uint64_t) + 2 * sizeof(double) + 2 * sizeof(One) + 5 * sizeof(float) + 2 * sizeof(int32_t))
        )
        if self.room == NULL:
            raise MemoryError()
        cdef uint64_t *slots = <uint64_t *> self.room
        self.keys = slots + (1 << bits)
        self.sums = <double *> (self.keys + n)
        self.room_for_ranks = self.sums + 2 * n
        self.numbers = <float *> (<One *> self.room_for_ranks + 2 * n)
        self.group = <int32_t *> (self.numbers + 5 * n)
        empty_table(&self.table, slots, self.group + 2 * n, bits)
        self._number(keys, self.group + n)
        self.logs = Logs.__new__(Logs, np.log1p, np.float32, 15 * n + MOST)
        self.wide_logs = Logs.__new__(Logs, np.log1p, np.float64, 3 * n + MOST)
        self.plain_logs = Logs.__new__(Logs, np.log, np.float32, 9 * n + MOST)

    def __dealloc__(self):
        free(self.room)

    cdef void _number(self, const uint64_t[:] keys, int32_t *number) noexcept:
        """Number the categories; ``number`` is room for a number of each place."""
        cdef Py_ssize_t i
        cdef int64_t first
        self.groups = 0
        for i in range(self.n):
            first = first_place(&self.table, keys[i], i)
            if first == i:
                number[i] = <int32_t> self.groups
                self.keys[self.groups] = keys[i]
                self.groups += 1
            self.group[i] = number[first]

    cdef int64_t group_of(self, uint64_t key) noexcept:
        """Return the number of a category; -1: no candidate is in it."""
        cdef int64_t place = place_of(&self.table, key)
        return self.group[place] if place >= 0 else -1

    cdef float *column(self, Py_ssize_t column) noexcept:
        return self.at + column * self.n

    cdef void set_all(self, Py_ssize_t column, float value) noexcept:
        """Fill a column with one number."""
        cdef float *to = self.column(column)
        cdef Py_ssize_t i
        for i in range(self.n):
            to[i] = value

    cdef void set_groups(self, Py_ssize_t column, const float *values) noexcept:
        """Fill a column with the numbers of the categories."""
        cdef float *to = self.column(column)
        cdef Py_ssize_t i
        for i in range(self.n):
            to[i] = values[self.group[i]]

    cdef float *log1p_of(self, Py_ssize_t column, Spread spread=EACH) except NULL:
        """Return where the numbers go whose ``log1p`` is a column."""
        return <float *> self.logs.of(self, column, spread)

    cdef double *wide_log1p_of(self, Py_ssize_t column, Spread spread=EACH) except NULL:
        """The same in float64: the column has the rounded results. Not by category."""
        return <double *> self.wide_logs.of(self, column, spread)

    cdef float *log_of(self, Py_ssize_t column, Spread spread=EACH) except NULL:
        """Return where the numbers go whose ``log`` is a column."""
        return <float *> self.plain_logs.of(self, column, spread)

    cdef int rank(self, Py_ssize_t column, const float *score) except -1:
        """Fill a column with the ranks of scores ``(n,)``."""
        ranks_into(score, self.n, self.column(column), <One *> self.room_for_ranks)
        return 0

    def fill_logs(self):
        self.logs.fill(self)
        self.wide_logs.fill(self)
        self.plain_logs.fill(self)

    def fill_all(self, Py_ssize_t column, float value):
        self.set_all(column, value)


cdef RowBytes rows_like(data, dtype, Py_ssize_t n):
    """Return the bytes of ``n`` rows of a dtype, each field at a multiple of its size."""
    if data.dtype is not dtype and data.dtype != dtype:
        raise ValueError(f"rows of other fields, {data.dtype}, are given")
    cdef RowBytes rows = RowBytes(data, False)
    if (<size_t> rows.start | <size_t> rows.step) & 7:
        rows = RowBytes(data.copy(), False)
    if rows.n != n:
        raise ValueError(f"{rows.n} rows are given where {n} are wanted")
    return rows


cdef const float[:] floats(values, Py_ssize_t n):
    """Return a column of the candidates as float32."""
    cdef const float[:] out = np.asarray(values, np.float32)
    if out.shape[0] != n:
        raise ValueError(f"{out.shape[0]} numbers for {n} candidates")
    return out


cdef const uint64_t[:] hashes(values, Py_ssize_t n):
    """Return a column of hashes of the candidates."""
    cdef const uint64_t[:] out = np.asarray(values, np.uint64)
    if out.shape[0] != n:
        raise ValueError(f"{out.shape[0]} hashes for {n} candidates")
    return out
