# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Records that are sent on, in columns: written with the header that says from where, and its numbers read."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from headrace.streams.transport.record_fields cimport (
    ROW_HEADERS, ROW_KEY, ROW_KEY_SIZE, ROW_N_HEADERS, ROW_OFFSET, ROW_TIMESTAMP, ROW_VALUE, ROW_VALUE_SIZE,
    check_fields, read_header,
)

import numpy as np

from headrace.streams.topics.names import FORWARDED
from headrace.streams.topics.record_batch import HEADER_BYTES

cdef enum:
    MOST_DIGITS = 18  # of a number in the header: it fits into 64 bits
    ROOM = 80  # more than the numbers of a record take, their sizes and its attributes
    LEAST = 16_384  # bytes allocated at first

cdef bytes NAME = FORWARDED.encode()
cdef Py_ssize_t BATCH_HEADER = HEADER_BYTES


cdef inline uint64_t _zigzag(int64_t number) noexcept nogil:
    return (<uint64_t> number << 1) ^ <uint64_t> (number >> 63)


cdef inline Py_ssize_t _width(int64_t number) noexcept nogil:
    """Return how many bytes a number takes."""
    cdef uint64_t rest = _zigzag(number) >> 7
    cdef Py_ssize_t n = 1
    while rest:
        rest >>= 7
        n += 1
    return n


cdef inline uint8_t *_number(int64_t number, uint8_t *to) noexcept nogil:
    """Write a number; return the place after it."""
    cdef uint64_t rest = _zigzag(number)
    while rest >= 0x80:
        to[0] = <uint8_t> (rest | 0x80)
        rest >>= 7
        to += 1
    to[0] = <uint8_t> rest
    return to + 1


cdef inline uint8_t *_piece(const uint8_t *text, int64_t size, uint8_t *to) noexcept nogil:
    """Write a size and that many bytes; the size of null is -1."""
    to = _number(size, to)
    if size > 0:
        memcpy(to, text, size)
        to += size
    return to


cdef inline Py_ssize_t _taken(int64_t size) noexcept nogil:
    """Return how many bytes ``_piece`` takes."""
    return _width(size) + (size if size > 0 else 0)


cdef inline int _digits(int64_t number, uint8_t *to) noexcept nogil:
    """Write a number that is not negative in decimal; return how many digits it has."""
    cdef uint8_t back[20]
    cdef int n = 0, i
    while number or not n:
        back[n] = c'0' + <uint8_t> (number % 10)
        number //= 10
        n += 1
    for i in range(n):
        to[i] = back[n - 1 - i]
    return n


cdef struct Told:
    # a record: its parts, its headers as they are in a record, and one more of ``own_size`` bytes
    const uint8_t *key
    const uint8_t *value
    const uint8_t *headers
    const uint8_t *own
    int64_t key_size, value_size, headers_size, own_size, n_headers, timestamp


cdef class SentOn:
    """Encoded records for one partition, in order."""

    cdef uint8_t *out
    cdef Py_ssize_t room, used, count, max_bytes
    cdef int64_t first, newest
    cdef list done

    def __init__(self, Py_ssize_t max_bytes):
        self.max_bytes, self.done = max_bytes, []

    def __dealloc__(self):
        free(self.out)

    cdef void _close(self):
        if self.count:
            payload = PyBytes_FromStringAndSize(<const char *> self.out, self.used)
            self.done.append((payload, self.count, self.first, self.newest))
        self.used = self.count = 0

    cdef int _put(self, const Told *told) except -1:
        """Encode a record; begin a batch when the last one is full."""
        cdef Py_ssize_t parts = _taken(told.key_size) + _taken(told.value_size) + _width(told.n_headers)
        cdef Py_ssize_t length, room
        cdef uint8_t *to
        parts += told.headers_size + told.own_size + 1
        if self.count:
            length = parts + _width(told.timestamp - self.first) + _width(self.count)
            if BATCH_HEADER + self.used + _width(length) + length > self.max_bytes:
                self._close()
        if not self.count:
            self.first = self.newest = told.timestamp
        length = parts + _width(told.timestamp - self.first) + _width(self.count)
        if self.used + length + ROOM > self.room:
            room = max(2 * self.room, self.used + length + ROOM, <Py_ssize_t> LEAST)
            to = <uint8_t *> realloc(self.out, room)
            if to == NULL:
                raise MemoryError
            self.out, self.room = to, room
        to = _number(length, self.out + self.used)
        to[0] = 0  # attributes
        to = _number(self.count, _number(told.timestamp - self.first, to + 1))
        to = _piece(told.value, told.value_size, _piece(told.key, told.key_size, to))
        to = _number(told.n_headers, to)
        memcpy(to, told.headers, told.headers_size)
        memcpy(to + told.headers_size, told.own, told.own_size)
        self.used = to + told.headers_size + told.own_size - self.out
        self.count += 1
        self.newest = max(self.newest, told.timestamp)
        return 0

    def add(self, const uint8_t[::1] payload not None, const int64_t[:, :] fields not None, str place, int64_t base):
        cdef Py_ssize_t i, at, size = payload.shape[0]
        cdef int64_t n, name, n_name, value, n_value
        cdef Told told
        cdef bytes start = place.encode() + b"/"
        cdef Py_ssize_t n_start = PyBytes_GET_SIZE(start), n_digits
        cdef uint8_t digits[20]
        own = bytearray(len(NAME) + n_start + ROOM)
        cdef uint8_t *header = own
        cdef uint8_t *after_name = _piece(<const uint8_t *> PyBytes_AS_STRING(NAME), len(NAME), header)
        cdef uint8_t *to
        cdef const uint8_t *text
        check_fields(fields, size)
        if not fields.shape[1]:
            return
        text = &payload[0]
        told.own = header
        for i in range(fields.shape[1]):
            told.key, told.key_size = text + fields[ROW_KEY, i], fields[ROW_KEY_SIZE, i]
            told.value, told.value_size = text + fields[ROW_VALUE, i], fields[ROW_VALUE_SIZE, i]
            told.timestamp, told.headers = fields[ROW_TIMESTAMP, i], text + fields[ROW_HEADERS, i]
            n, at = fields[ROW_N_HEADERS, i], fields[ROW_HEADERS, i]
            told.n_headers = n + 1
            while n > 0:
                if not read_header(text, size, &at, &name, &n_name, &value, &n_value):
                    raise ValueError("no header there")
                n -= 1
            told.headers_size = at - fields[ROW_HEADERS, i]
            if fields[ROW_OFFSET, i] + base < 0:
                raise ValueError(f"an offset of {fields[ROW_OFFSET, i]} + {base}")
            n_digits = _digits(fields[ROW_OFFSET, i] + base, digits)
            to = _number(n_start + n_digits, after_name)
            memcpy(to, PyBytes_AS_STRING(start), n_start)
            memcpy(to + n_start, digits, n_digits)
            told.own_size = to + n_start + n_digits - header
            self._put(&told)

    def add_one(self, bytes key, bytes value, int64_t timestamp, list headers not None):
        cdef Told told
        cdef bytes raw = b"".join([_packed(part) for name, text in headers for part in (name.encode(), text)])
        told.key, told.key_size, told.value, told.value_size = NULL, -1, NULL, -1
        if key is not None:
            told.key, told.key_size = <const uint8_t *> PyBytes_AS_STRING(key), len(key)
        if value is not None:
            told.value, told.value_size = <const uint8_t *> PyBytes_AS_STRING(value), len(value)
        told.headers, told.headers_size = <const uint8_t *> PyBytes_AS_STRING(raw), len(raw)
        told.own, told.own_size, told.n_headers = told.headers, 0, len(headers)
        told.timestamp = timestamp
        self._put(&told)

    def take(self):
        self._close()
        done, self.done = self.done, []
        return done


cdef bytes _packed(object part):
    """Return a part of a header, with its size before it."""
    cdef uint8_t size[10]
    cdef uint8_t *end = _number(-1 if part is None else len(part), size)
    return PyBytes_FromStringAndSize(<const char *> size, end - size) + (part or b"")


cdef inline int64_t _whole(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """Return a decimal number, -1 when it is none or has more than ``MOST_DIGITS``."""
    cdef int64_t number = 0
    cdef Py_ssize_t i
    if not 0 < size <= MOST_DIGITS:
        return -1
    for i in range(size):
        if not c'0' <= text[i] <= c'9':
            return -1
        number = 10 * number + text[i] - c'0'
    return number


cdef inline Py_ssize_t _slash_before(const uint8_t *text, Py_ssize_t end) noexcept nogil:
    """Return where the last slash before ``end`` is, -1 when there is none."""
    end -= 1
    while end >= 0 and text[end] != c'/':
        end -= 1
    return end


cdef bint _origin(
    const uint8_t *text, Py_ssize_t size, const uint8_t *topic, Py_ssize_t n_topic, int64_t *partition, int64_t *offset
) noexcept nogil:
    """Return whether the value of a header is one of ours; the numbers of another topic than ``topic`` are -1."""
    cdef Py_ssize_t second = _slash_before(text, size), first = _slash_before(text, second)
    cdef int64_t where, number
    if second < 0 or first < 1:
        return False
    where, number = _whole(text + first + 1, second - first - 1), _whole(text + second + 1, size - second - 1)
    if where < 0 or number < 0:
        return False
    if first == n_topic and not memcmp(text, topic, n_topic):
        partition[0], offset[0] = where, number
    return True


def read_origins(const uint8_t[::1] payload not None, const int64_t[:, :] fields not None, str topic not None):
    cdef Py_ssize_t i, at, size = payload.shape[0], n_sought = len(NAME)
    cdef int64_t n, name, n_name, value, n_value
    cdef bytes encoded = topic.encode()
    cdef const uint8_t *wanted = encoded
    cdef const uint8_t *sought = NAME
    cdef const uint8_t *text
    check_fields(fields, size)
    out = np.full((2, fields.shape[1]), -1, np.int64)
    if not fields.shape[1]:
        return out
    cdef int64_t[:, ::1] to = out
    text = &payload[0]
    for i in range(fields.shape[1]):
        n, at = fields[ROW_N_HEADERS, i], fields[ROW_HEADERS, i]
        while n > 0:
            if not read_header(text, size, &at, &name, &n_name, &value, &n_value):
                raise ValueError("no header there")
            n -= 1
            if n_name == n_sought and not memcmp(text + name, sought, n_sought) and _origin(
                text + value, n_value, wanted, PyBytes_GET_SIZE(encoded), &to[0, i], &to[1, i]
            ):
                break
    return out
