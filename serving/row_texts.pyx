# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The texts of the rows of a table, compiled: bytes, and no Python objects."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

cdef enum:
    ROWS = 65536  # of a part: a longer table is more parts, nothing is copied


cdef struct Texts:
    uint32_t id_size, title_size
    char raw[1]  # both, one after the other; longer than it says


cdef class RowTexts:
    """Id and title of each row."""

    cdef Texts ***parts
    cdef Py_ssize_t n_parts
    cdef readonly int64_t nbytes

    def __dealloc__(self):
        cdef Py_ssize_t part, i
        for part in range(self.n_parts):
            for i in range(ROWS):
                free(self.parts[part][i])
            free(self.parts[part])
        free(self.parts)

    cdef inline Texts **_place(self, int64_t row) noexcept:
        """Return where the texts of a row are noted; NULL where there is no such row."""
        return &self.parts[row // ROWS][row % ROWS] if 0 <= row < self.n_parts * ROWS else NULL

    cdef Texts *_of(self, int64_t row) except NULL:
        cdef Texts **place = self._place(row)
        if place == NULL or place[0] == NULL:
            raise KeyError(row)
        return place[0]

    cdef int _grow(self, int64_t rows) except -1:
        cdef Texts ***parts
        while self.n_parts * ROWS < rows:
            parts = <Texts ***> realloc(self.parts, (self.n_parts + 1) * sizeof(Texts **))
            if parts == NULL:
                raise MemoryError
            self.parts = parts
            self.parts[self.n_parts] = <Texts **> calloc(ROWS, sizeof(Texts *))
            if self.parts[self.n_parts] == NULL:
                raise MemoryError
            self.n_parts += 1
            self.nbytes += ROWS * sizeof(Texts *)
        return 0

    cdef void _free(self, Texts **place) noexcept:
        if place[0] != NULL:
            self.nbytes -= sizeof(Texts) + place[0].id_size + place[0].title_size
            free(place[0])
            place[0] = NULL

    def put(self, const int64_t[::1] rows not None, list ids not None, list titles not None):
        cdef Py_ssize_t i, n = rows.shape[0], id_size, title_size
        cdef int64_t last = -1
        cdef const char *id_
        cdef const char *title
        cdef Texts *texts
        if len(ids) != n or len(titles) != n:
            raise ValueError(f"{len(ids)} ids and {len(titles)} titles for {n} rows")
        for i in range(n):
            if rows[i] < 0:
                raise IndexError(rows[i])
            last = max(last, rows[i])
        self._grow(last + 1)
        for i in range(n):
            id_ = PyUnicode_AsUTF8AndSize(ids[i], &id_size)
            title = PyUnicode_AsUTF8AndSize(titles[i], &title_size)
            if id_size > 0x7FFFFFFF or title_size > 0x7FFFFFFF:
                raise OverflowError("a text is too long")
            texts = <Texts *> malloc(sizeof(Texts) + id_size + title_size)
            if texts == NULL:
                raise MemoryError
            texts.id_size, texts.title_size = <uint32_t> id_size, <uint32_t> title_size
            memcpy(texts.raw, id_, id_size)
            memcpy(texts.raw + id_size, title, title_size)
            self._free(self._place(rows[i]))
            self._place(rows[i])[0] = texts
            self.nbytes += sizeof(Texts) + id_size + title_size

    def drop(self, const int64_t[::1] rows not None):
        cdef Py_ssize_t i
        cdef Texts **place
        for i in range(rows.shape[0]):
            place = self._place(rows[i])
            if place != NULL:
                self._free(place)

    cpdef id_of(self, int64_t row):
        cdef Texts *texts = self._of(row)
        return PyUnicode_DecodeUTF8(texts.raw, texts.id_size, NULL)

    def ids_of(self, const int64_t[::1] rows not None):
        return [self.id_of(rows[i]) for i in range(rows.shape[0])]

    def title_of(self, int64_t row):
        cdef Texts *texts = self._of(row)
        return PyUnicode_DecodeUTF8(texts.raw + texts.id_size, texts.title_size, NULL)

    def other(self, const int64_t[::1] rows not None, list ids not None):
        cdef Py_ssize_t i, size
        cdef const char *raw
        cdef Texts **place
        if len(ids) != rows.shape[0]:
            raise ValueError(f"{len(ids)} ids for {rows.shape[0]} rows")
        for i in range(rows.shape[0]):
            place = self._place(rows[i])
            if place == NULL or place[0] == NULL:
                continue
            raw = PyUnicode_AsUTF8AndSize(ids[i], &size)
            if size != place[0].id_size or memcmp(raw, place[0].raw, size):
                return i
        return -1
