# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Reads all fields of many items of a catalogue at once: of those in memory, and of those in a snapshot."""

from libc.stdint cimport int8_t, int16_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

from headrace.serving.catalog_row import BLANK, ROW

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define headrace_prefetch(p) __builtin_prefetch(p)
    #else
    #define headrace_prefetch(p)
    #endif
    """
    void _prefetch "headrace_prefetch"(const void *p) noexcept nogil

cdef enum:
    AHEAD = 8  # items whose fields are fetched while earlier ones are read
    AHEAD_VECTORS = 4  # the same for vectors: each is several cache lines

cdef struct Item:  # a row of the catalogue (``catalog_row.ROW``)
    uint64_t key, category, creator, language
    int64_t published, duration
    float boost
    uint32_t title
    int16_t min_age
    uint8_t rules, blocked

cdef Item _at
_PLACES = {
    "key": <char *> &_at.key - <char *> &_at, "category": <char *> &_at.category - <char *> &_at,
    "creator": <char *> &_at.creator - <char *> &_at, "language": <char *> &_at.language - <char *> &_at,
    "published": <char *> &_at.published - <char *> &_at, "duration": <char *> &_at.duration - <char *> &_at,
    "boost": <char *> &_at.boost - <char *> &_at, "title": <char *> &_at.title - <char *> &_at,
    "min_age": <char *> &_at.min_age - <char *> &_at, "rules": <char *> &_at.rules - <char *> &_at,
    "blocked": <char *> &_at.blocked - <char *> &_at,
}
if ROW.itemsize != sizeof(Item) or {name: ROW.fields[name][1] for name in ROW.names} != _PLACES:
    raise ImportError(f"rows of the catalogue have another layout than the compiled one: {ROW}")
cdef const uint8_t[::1] _blank_bytes = np.frombuffer(BLANK.tobytes(), np.uint8)


cdef class MappedItems:
    """The columns of a snapshot."""

    cdef const uint64_t[::1] _key
    cdef const uint64_t[::1] _name
    cdef const uint32_t[::1] _category
    cdef const uint32_t[::1] _creator
    cdef const uint32_t[::1] _language
    cdef const uint32_t[::1] _duration
    cdef const uint32_t[::1] _title
    cdef const uint32_t[::1] _flags
    cdef const uint32_t[::1] _allowed
    cdef const uint32_t[::1] _banned
    cdef const int64_t[::1] _published
    cdef const uint8_t[::1] _min_age
    cdef const uint8_t[::1] _shut
    cdef const float[::1] _boost
    cdef const int8_t[:, ::1] _high
    cdef const int8_t[:, ::1] _low
    cdef const int8_t[:, ::1] _alike
    cdef const float[::1] _scale
    cdef Py_ssize_t _n

    def __init__(self, column, shut):
        self._key, self._name, self._published = column["key"], column["name_key"], column["published"]
        self._category, self._creator, self._language = column["category"], column["creator"], column["language"]
        self._duration, self._title, self._flags = column["duration"], column["title"], column["flags"]
        self._allowed, self._banned = column["allowed"], column["blocked"]
        self._min_age, self._boost, self._shut = column["min_age"], column["boost"], shut.view(np.uint8)
        self._high, self._low, self._scale = column["high"], column["low"], column["scale"]
        self._alike, self._n = column["alike"], len(column["key"])
        for name in (
            "name_key", "published", "category", "creator", "language", "duration", "title", "flags", "allowed",
            "blocked", "min_age", "boost", "high", "low", "scale", "alike",
        ):
            if name != "name_key" and len(column[name]) != self._n:
                raise ValueError(f"{self._n} keys, {len(column[name])} of {name}")

    cdef inline void _fetch(self, int64_t row) noexcept nogil:
        _prefetch(&self._key[row])
        _prefetch(&self._category[row])
        _prefetch(&self._creator[row])
        _prefetch(&self._language[row])
        _prefetch(&self._published[row])
        _prefetch(&self._duration[row])
        _prefetch(&self._boost[row])
        _prefetch(&self._title[row])
        _prefetch(&self._min_age[row])
        _prefetch(&self._flags[row])
        _prefetch(&self._allowed[row])
        _prefetch(&self._banned[row])

    cdef inline bint _read(self, int64_t row, Item *to) noexcept nogil:
        """Read an item; return whether its names and flags are among those of the snapshot."""
        cdef size_t names = self._name.shape[0]
        if self._category[row] >= names or self._creator[row] >= names or self._language[row] >= names:
            return False
        if self._flags[row] >= <size_t> self._shut.shape[0]:
            return False
        to.key, to.published, to.duration = self._key[row], self._published[row], self._duration[row]
        to.category, to.creator = self._name[self._category[row]], self._name[self._creator[row]]
        to.language, to.boost, to.title = self._name[self._language[row]], self._boost[row], self._title[row]
        to.min_age, to.blocked = self._min_age[row], self._shut[self._flags[row]]
        to.rules = self._allowed[row] != 0 or self._banned[row] != 0
        return True


cdef Py_ssize_t _checked(const int64_t[::1] rows, Py_ssize_t n) except -1:
    """Raise IndexError unless every row is -1 or one of ``n``."""
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if rows[i] < -1 or rows[i] >= n:
            raise IndexError(f"row {rows[i]} of a catalogue with {n}")
    return rows.shape[0]


def items_of(const int64_t[::1] rows not None, own, MappedItems mapped):
    cdef RowBytes here = RowBytes(own, False)
    cdef Py_ssize_t i, first = mapped._n if mapped is not None else 0, wrong = -1
    cdef Py_ssize_t n = _checked(rows, first + here.n)
    cdef int64_t ahead
    if here.size != sizeof(Item):
        raise ValueError(f"rows of {here.size} bytes; a row of the catalogue has {sizeof(Item)}")
    out = np.zeros(n, ROW)
    cdef RowBytes into = RowBytes(out, True)
    cdef Item *to = <Item *> into.start
    with nogil:
        for i in range(n):
            if i + AHEAD < n:
                ahead = rows[i + AHEAD]
                if ahead >= first:
                    _prefetch(here.start + (ahead - first) * here.step)
                elif ahead >= 0:
                    mapped._fetch(ahead)
            if rows[i] < 0:
                memcpy(to + i, &_blank_bytes[0], sizeof(Item))
            elif rows[i] >= first:
                memcpy(to + i, here.start + (rows[i] - first) * here.step, sizeof(Item))
            elif not mapped._read(rows[i], to + i):
                wrong = rows[i]
    if wrong >= 0:
        raise IndexError(f"row {wrong} of the snapshot has a name or a set that is not there")
    return out


def columns_in(items):
    cdef RowBytes given = RowBytes(items, False)
    cdef Py_ssize_t i, n = given.n
    cdef const Item *item
    if given.size != sizeof(Item):
        raise ValueError(f"rows of {given.size} bytes; a row of the catalogue has {sizeof(Item)}")
    categories, creators, languages = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint64)
    born, lengths = np.empty(n, np.int64), np.empty(n, np.int64)
    cdef uint64_t[::1] category = categories
    cdef uint64_t[::1] creator = creators
    cdef uint64_t[::1] language = languages
    cdef int64_t[::1] published = born
    cdef int64_t[::1] duration = lengths
    for i in range(n):
        item = <const Item *> (given.start + i * given.step)
        category[i], creator[i], language[i] = item.category, item.creator, item.language
        published[i], duration[i] = item.published, item.duration
    return categories, creators, languages, born, lengths


def keys_here(const int64_t[::1] rows not None, own, MappedItems mapped):
    cdef RowBytes here = RowBytes(own, False)
    cdef Py_ssize_t i, first = mapped._n if mapped is not None else 0
    cdef Py_ssize_t n = _checked(rows, first + here.n)
    if here.size != sizeof(Item):
        raise ValueError(f"rows of {here.size} bytes; a row of the catalogue has {sizeof(Item)}")
    out = np.zeros(n, np.uint64)
    cdef uint64_t[::1] keys = out
    with nogil:
        for i in range(n):
            if i + AHEAD < n and rows[i + AHEAD] >= first:
                _prefetch(here.start + (rows[i + AHEAD] - first) * here.step)
            if rows[i] >= first:
                keys[i] = (<const Item *> (here.start + (rows[i] - first) * here.step)).key
    return out


def vectors_of(const int64_t[::1] rows not None, MappedItems mapped, bint known, const int64_t[::1] places not None, own, name):
    cdef RowBytes here = RowBytes(own, False)
    field, at = own.dtype.fields[name][:2]
    cdef Py_ssize_t start = at, dim = field.shape[0], i, j
    cdef Py_ssize_t first = mapped._n if mapped is not None else 0
    cdef Py_ssize_t n = rows.shape[0]
    cdef int64_t row
    cdef float scale
    cdef bint close = field.base == np.int8
    cdef const int8_t *high
    cdef const int8_t *low
    cdef const int8_t *two
    cdef float *to
    if field.base != np.float32 and not close:
        raise ValueError(f"vectors of {field}")
    if places.shape[0] != n:
        raise ValueError(f"{n} rows, {places.shape[0]} in memory")
    _checked(places, here.n)
    if mapped is not None and first and mapped._high.shape[1] != dim:
        raise ValueError(f"vectors of {dim} and {mapped._high.shape[1]}")
    out = np.empty((n, dim), np.float32)
    cdef float[:, ::1] found = out
    if not n or not dim:
        return out
    with nogil:
        for i in range(n):
            if i + AHEAD_VECTORS < n:
                row = rows[i + AHEAD_VECTORS]
                if row >= first and places[i + AHEAD_VECTORS] >= 0:
                    for j in range(0, dim * (1 if close else 4), 64):
                        _prefetch(here.start + places[i + AHEAD_VECTORS] * here.step + start + j)
                elif known and 0 <= row < first:
                    if close:
                        _prefetch(&mapped._alike[row, 0])
                    else:
                        _prefetch(&mapped._high[row, 0])
                        _prefetch(&mapped._low[row, 0])
                        _prefetch(&mapped._scale[row])
            row, to = rows[i], &found[i, 0]
            if row >= first and places[i] >= 0:
                two = <const int8_t *> (here.start + places[i] * here.step + start)
                if close:
                    for j in range(dim):
                        to[j] = <float> two[j] / <float> 127
                else:
                    memcpy(to, two, dim * sizeof(float))
            elif not known or row < 0 or row >= first:
                memset(to, 0, dim * sizeof(float))
            elif close:
                two = &mapped._alike[row, 0]
                for j in range(dim):
                    to[j] = <float> two[j] / <float> 127
            else:
                high, low, scale = &mapped._high[row, 0], &mapped._low[row, 0], mapped._scale[row]
                for j in range(dim):
                    to[j] = <float> (<int> high[j] * 256 + low[j]) * scale
    return out


def number_of(const uint64_t[::1] hashes not None, const int64_t[::1] order not None, uint64_t key):
    cdef Py_ssize_t low = 0, high = min(hashes.shape[0], order.shape[0]), middle, n = high
    while low < high:
        middle = (low + high) // 2
        if hashes[order[middle]] < key:
            low = middle + 1
        else:
            high = middle
    return order[low] if low < n and hashes[order[low]] == key else -1
