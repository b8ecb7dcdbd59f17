# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates what users hid, compiled: a pass over the events that hide something, or undo it."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.string cimport memmove

from headrace.models.state.row_access cimport AHEAD, bytes_of, field_at, prefetch, rows_of_events

from headrace.streams.messages.columns import KIND

cdef enum:
    LOOK = 4 * AHEAD  # few events hide something: look further ahead

cdef int _HIDE = KIND["hide"], _LIKE = KIND["like"], _FOLLOW = KIND["follow"]


cdef class HiddenUpdates:
    """Puts hidden items and creators into rows of users, and takes them out."""

    cdef Py_ssize_t size
    cdef ptrdiff_t items, creators
    cdef int n_items, n_creators

    def __init__(self, dtype, *, int items, int creators):
        if items < 1 or creators < 1:
            raise ValueError(f"{items} items, {creators} creators")
        self.size, self.n_items, self.n_creators = dtype.itemsize, items, creators
        self.items = field_at(dtype, "hidden", "<u8", (items,))
        self.creators = field_at(dtype, "hidden_creators", "<u8", (creators,))

    def apply(self, data, const int64_t[::1] rows, events):
        cdef const uint64_t[::1] item = events.item
        cdef const uint64_t[::1] creator = events.creator
        cdef const int8_t[::1] kind = events.kind
        cdef const uint8_t[::1] of_creator = events.of_creator.view("u1")
        cdef unsigned char[::1] raw = bytes_of(data, self.size)
        cdef unsigned char *row
        cdef Py_ssize_t i, n = kind.shape[0]
        if not n == item.shape[0] == creator.shape[0] == of_creator.shape[0]:
            raise ValueError("columns of different lengths")
        rows_of_events(rows, len(data), n)
        with nogil:
            for i in range(n):
                if i + LOOK < n and _counts(kind[i + LOOK]):
                    row = &raw[0] + rows[i + LOOK] * self.size
                    prefetch(row + (self.creators if kind[i + LOOK] == _FOLLOW else self.items))
                if not _counts(kind[i]):
                    continue
                row = &raw[0] + rows[i] * self.size
                if kind[i] == _LIKE:
                    _take_out(<uint64_t *>(row + self.items), self.n_items, item[i])
                elif kind[i] == _FOLLOW:
                    _take_out(<uint64_t *>(row + self.creators), self.n_creators, creator[i])
                else:
                    _put_last(<uint64_t *>(row + self.items), self.n_items, item[i])
                    if of_creator[i]:
                        _put_last(<uint64_t *>(row + self.creators), self.n_creators, creator[i])


cdef inline bint _counts(int8_t kind) noexcept nogil:
    return kind == _HIDE or kind == _LIKE or kind == _FOLLOW


cdef inline int _length(const uint64_t *keys, int room) noexcept nogil:
    cdef int n = 0
    while n < room and keys[n]:
        n += 1
    return n


cdef void _take_out(uint64_t *keys, int room, uint64_t key) noexcept nogil:
    """Remove a key; those after it move up."""
    cdef int n = _length(keys, room), place = 0
    while place < n and keys[place] != key:
        place += 1
    if place < n:
        memmove(keys + place, keys + place + 1, 8 * (n - 1 - place))
        keys[n - 1] = 0


cdef void _put_last(uint64_t *keys, int room, uint64_t key) noexcept nogil:
    """Put a key at the end, also one that is there already; when there is no room, the first one goes."""
    cdef int n
    if not key:
        return
    _take_out(keys, room, key)
    n = _length(keys, room)
    if n == room:
        _take_out(keys, room, keys[0])
        n -= 1
    keys[n] = key
