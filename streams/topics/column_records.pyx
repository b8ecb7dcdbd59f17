# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Records made from columns: their JSON, and their frames with keys and timestamps. Compiled."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

import numpy as np

cdef enum:
    ROOM = 64  # more than what a record has besides key, value and header
    LONGEST = 6  # bytes that one byte of a text may take in JSON

#: Kinds of pieces, see the declaration.
TEXT, PLAIN, OPEN, CLOSE = range(4)

cdef enum:
    K_TEXT = 0
    K_PLAIN = 1
    K_OPEN = 2

cdef const char *HEX = "0123456789abcdef"


cdef struct Piece:
    int kind
    const uint8_t *name
    Py_ssize_t name_size
    const uint8_t *data
    const int32_t *bounds
    const uint8_t *there


cdef inline uint8_t *_escaped(const uint8_t *text, Py_ssize_t size, uint8_t *to) noexcept nogil:
    """Write the inside of a JSON string; return the place after it."""
    cdef Py_ssize_t i
    cdef uint8_t c
    for i in range(size):
        c = text[i]
        if c == c'"' or c == c'\\':
            to[0], to[1] = c'\\', c
            to += 2
        elif c < 0x20:
            memcpy(to, b"\\u00", 4)
            to[4], to[5] = HEX[c >> 4], HEX[c & 15]
            to += 6
        else:
            to[0] = c
            to += 1
    return to


def json_rows(list pieces not None, Py_ssize_t n):
    cdef Py_ssize_t i, k, size, used = 0, room = 256 * n + 4096, count = len(pieces), needed
    cdef uint8_t *out = NULL
    cdef uint8_t *to
    cdef uint8_t *larger
    cdef bint comma
    cdef Piece *piece
    cdef const uint8_t[::1] data
    cdef const int32_t[::1] bounds
    cdef const uint8_t[::1] there
    cdef bytes name
    begins = np.empty(n + 1, np.int64)
    cdef int64_t[::1] at = begins
    cdef Piece *all_pieces = <Piece *> malloc((count + 1) * sizeof(Piece))
    kept = []  # what the pointers point to
    if all_pieces == NULL:
        raise MemoryError
    try:
        for k in range(count):
            piece = &all_pieces[k]
            kind, name, given, given_bounds, given_there = pieces[k]
            piece.kind, piece.name, piece.name_size = kind, name, len(name)
            piece.data = piece.there = NULL
            piece.bounds = NULL
            if kind == TEXT or kind == PLAIN:
                data, bounds = given, given_bounds
                if bounds.shape[0] != n + 1:
                    raise ValueError(f"{bounds.shape[0] - 1} values for {n} rows")
                for i in range(n):
                    if bounds[i + 1] < bounds[i]:
                        raise ValueError("bounds rise")
                if n and (bounds[0] < 0 or bounds[n] > data.shape[0]):
                    raise ValueError("bounds lie inside the data")
                if data.shape[0]:
                    piece.data = &data[0]
                piece.bounds = &bounds[0]
                if given_there is not None:
                    there = given_there
                    if there.shape[0] != n:
                        raise ValueError(f"{there.shape[0]} flags for {n} rows")
                    if n:
                        piece.there = &there[0]
            kept.append((name, given, given_bounds, given_there))
        out = <uint8_t *> malloc(room)
        if out == NULL:
            raise MemoryError
        for i in range(n):
            at[i] = used
            needed = 8
            for k in range(count):
                piece = &all_pieces[k]
                needed += piece.name_size + 4
                if piece.bounds != NULL:
                    needed += LONGEST * (piece.bounds[i + 1] - piece.bounds[i])
            if used + needed > room:
                room = 2 * room + needed
                larger = <uint8_t *> realloc(out, room)
                if larger == NULL:
                    raise MemoryError
                out = larger
            to = out + used
            to[0] = c'{'
            to += 1
            comma = False
            for k in range(count):
                piece = &all_pieces[k]
                if piece.kind > K_OPEN:
                    to[0] = c'}'
                    to += 1
                    comma = True
                    continue
                if piece.there != NULL and not piece.there[i]:
                    continue
                if comma:
                    to[0] = c','
                    to += 1
                memcpy(to, piece.name, piece.name_size)
                to += piece.name_size
                if piece.kind == K_OPEN:
                    to[0] = c'{'
                    to += 1
                    comma = False
                    continue
                comma = True
                size = piece.bounds[i + 1] - piece.bounds[i]
                if piece.kind == K_TEXT:
                    to[0] = c'"'
                    to = _escaped(piece.data + piece.bounds[i], size, to + 1)
                    to[0] = c'"'
                    to += 1
                elif size:
                    memcpy(to, piece.data + piece.bounds[i], size)
                    to += size
            to[0] = c'}'
            used = to + 1 - out
        at[n] = used
        return PyBytes_FromStringAndSize(<const char *> out, used), begins
    finally:
        free(out)
        free(all_pieces)


cdef inline uint8_t *_number(int64_t number, uint8_t *to) noexcept nogil:
    """Write a number as a varint; return the place after it."""
    cdef uint64_t rest = (<uint64_t> number << 1) ^ <uint64_t> (number >> 63)
    while rest >= 0x80:
        to[0] = <uint8_t> (rest | 0x80)
        rest >>= 7
        to += 1
    to[0] = <uint8_t> rest
    return to + 1


cdef inline Py_ssize_t _width(int64_t number) noexcept nogil:
    """Return how many bytes ``_number`` takes."""
    cdef uint8_t scratch[10]
    return _number(number, scratch) - scratch


def keyed_frame(
    const uint8_t[::1] keys not None, const int32_t[::1] key_bounds not None, const uint8_t[::1] blob not None,
    const int64_t[::1] bounds not None, const int64_t[::1] timestamps not None, const int64_t[::1] rows not None,
    bytes name not None, bytes value not None,
):
    cdef Py_ssize_t i, n = rows.shape[0], known = timestamps.shape[0], size, room = len(name) + len(value) + ROOM
    cdef int64_t row, first, newest, key_size, value_size, told
    cdef uint8_t *out
    cdef uint8_t *to
    cdef const uint8_t *name_text = name
    cdef const uint8_t *value_text = value
    cdef Py_ssize_t n_name = len(name), n_value = len(value)
    if not n or key_bounds.shape[0] != known + 1 or bounds.shape[0] != known + 1:
        raise ValueError(f"{n} rows of {known}, {key_bounds.shape[0] - 1} keys, {bounds.shape[0] - 1} values")
    for i in range(n):
        row = rows[i]
        if not 0 <= row < known:
            raise ValueError(f"there is no row {row}")
        key_size, value_size = key_bounds[row + 1] - key_bounds[row], bounds[row + 1] - bounds[row]
        if key_size < 0 or value_size < 0 or key_bounds[row] < 0 or bounds[row] < 0:
            raise ValueError("bounds rise")
        if key_bounds[row + 1] > keys.shape[0] or bounds[row + 1] > blob.shape[0]:
            raise ValueError("bounds lie inside the data")
        room += ROOM + key_size + value_size
    out = <uint8_t *> malloc(room)
    if out == NULL:
        raise MemoryError
    first, to = timestamps[rows[0]], out
    newest = first
    try:
        for i in range(n):
            row = rows[i]
            key_size, value_size = key_bounds[row + 1] - key_bounds[row], bounds[row + 1] - bounds[row]
            told = timestamps[row] - first
            size = 1 + _width(told) + _width(i) + _width(key_size) + key_size + _width(value_size) + value_size + 1
            if not i:
                size += _width(n_name) + n_name + _width(n_value) + n_value
            to = _number(size, to)
            to[0] = 0  # attributes
            to = _number(key_size, _number(i, _number(told, to + 1)))
            if key_size:
                memcpy(to, &keys[key_bounds[row]], key_size)
            to = _number(value_size, to + key_size)
            if value_size:
                memcpy(to, &blob[bounds[row]], value_size)
            to = _number(0 if i else 1, to + value_size)  # number of headers
            if not i:
                to = _number(n_name, to)
                memcpy(to, name_text, n_name)
                to = _number(n_value, to + n_name)
                memcpy(to, value_text, n_value)
                to += n_value
            newest = max(newest, timestamps[row])
        return PyBytes_FromStringAndSize(<const char *> out, to - out), n, first, newest
    finally:
        free(out)
