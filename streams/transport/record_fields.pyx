# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Records of a record batch (message format v2): found and made, compiled."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp

import numpy as np

cdef enum:
    _OFFSET, _TIMESTAMP, _KIND, _KEY, _KEY_SIZE, _VALUE, _VALUE_SIZE, _HEADERS, _N_HEADERS, _FIELDS
    SMALLEST = 7  # bytes of a record with nothing in it

cdef int64_t FAR = 1 << 60  # sums of two numbers below do not overflow
cdef int64_t MOST = 1 << 31  # records of a batch

OFFSET, TIMESTAMP, KIND, KEY, KEY_SIZE, VALUE, VALUE_SIZE, HEADERS, N_HEADERS, FIELDS = range(10)


@cython.no_gc  # it refers to bytes alone, and to a list of them
@cython.freelist(100)
cdef class Record:
    """A record, with the attributes of aiokafka's."""

    cdef readonly int64_t offset, timestamp
    cdef readonly int timestamp_type
    cdef readonly object key, value
    cdef list _headers

    @property
    def headers(self):
        return [] if self._headers is None else self._headers

    @property
    def checksum(self):
        return None

    def __repr__(self):
        return (
            f"Record(offset={self.offset}, timestamp={self.timestamp}, timestamp_type={self.timestamp_type}, "
            f"key={self.key!r}, value={self.value!r}, headers={self.headers!r})"
        )


cdef inline bint _number(const uint8_t *text, Py_ssize_t end, Py_ssize_t *at, int64_t *out) noexcept nogil:
    """Read a zigzag-coded number of at most nine bytes before ``end``; return whether there is one."""
    cdef uint64_t raw = 0
    cdef int shift = 0
    cdef uint8_t byte
    while shift < 63 and at[0] < end:
        byte = text[at[0]]
        at[0] += 1
        raw |= <uint64_t> (byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = <int64_t> (raw >> 1) ^ -<int64_t> (raw & 1)
            return True
        shift += 7
    return False


cdef inline bint _piece(
    const uint8_t *text, Py_ssize_t end, Py_ssize_t *at, int64_t *start, int64_t *size
) noexcept nogil:
    """Read a size and that many bytes before ``end``; the size of null is -1. Return whether they are there."""
    if not _number(text, end, at, size) or size[0] < -1:
        return False
    start[0] = at[0]
    if size[0] > 0:
        if size[0] > end - at[0]:
            return False
        at[0] += size[0]
    return True


cdef bint _header(
    const uint8_t *text, Py_ssize_t end, Py_ssize_t *at, int64_t *name, int64_t *n_name, int64_t *value,
    int64_t *n_value,
) noexcept nogil:
    """Read a header whose name is ASCII; return whether there is one."""
    cdef Py_ssize_t i
    if not _piece(text, end, at, name, n_name) or n_name[0] < 0:
        return False
    for i in range(name[0], name[0] + n_name[0]):
        if text[i] >= 0x80:
            return False
    return _piece(text, end, at, value, n_value)


cdef inline bint _record(const uint8_t *text, Py_ssize_t size, Py_ssize_t *place, int64_t *out) noexcept nogil:
    """Read one record; its offset and timestamp are those relative to its batch."""
    cdef int64_t length, name, n_name, value, n_value, n
    cdef Py_ssize_t at = place[0], end
    if not _number(text, size, &at, &length) or length < 1 or length > size - at:
        return False
    end = at + length
    if text[at] >= 0x80:  # attributes: one byte, without a meaning so far
        return False
    at += 1
    if not _number(text, end, &at, &out[_TIMESTAMP]) or not -FAR < out[_TIMESTAMP] < FAR:
        return False
    if not _number(text, end, &at, &out[_OFFSET]) or not 0 <= out[_OFFSET] < MOST:
        return False
    if not _piece(text, end, &at, &out[_KEY], &out[_KEY_SIZE]):
        return False
    if not _piece(text, end, &at, &out[_VALUE], &out[_VALUE_SIZE]):
        return False
    if not _number(text, end, &at, &n) or n < 0:
        return False
    out[_HEADERS], out[_N_HEADERS] = at, n
    while n > 0:
        if not _header(text, end, &at, &name, &n_name, &value, &n_value):
            return False
        n -= 1
    place[0] = at
    return at == end


def find_records(
    const uint8_t[::1] payload not None, int64_t count, int64_t base_offset, int64_t base_timestamp,
    appended_at, int64_t shift,
):
    cdef Py_ssize_t i, at = 0, size = payload.shape[0]
    cdef bint dated = appended_at is not None
    cdef int64_t date = appended_at if dated else 0
    cdef int64_t found[_FIELDS]
    cdef bint sound = True
    if not 0 < count <= size // SMALLEST or not 0 <= base_offset < FAR or not -FAR < base_timestamp < FAR:
        return None
    fields = np.empty((_FIELDS, count), np.int64)
    cdef int64_t[:, ::1] to = fields
    cdef const uint8_t *text = &payload[0]
    with nogil:
        for i in range(count):
            sound = _record(text, size, &at, found)
            if not sound:
                break
            to[_OFFSET, i] = base_offset + found[_OFFSET]
            to[_TIMESTAMP, i] = date if dated else base_timestamp + found[_TIMESTAMP]
            to[_KIND, i] = dated
            to[_KEY, i] = shift + found[_KEY]
            to[_KEY_SIZE, i] = found[_KEY_SIZE]
            to[_VALUE, i] = shift + found[_VALUE]
            to[_VALUE_SIZE, i] = found[_VALUE_SIZE]
            to[_HEADERS, i] = shift + found[_HEADERS]
            to[_N_HEADERS, i] = found[_N_HEADERS]
    return fields if sound and at == size else None


cdef object _bytes(const uint8_t *text, int64_t at, int64_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<const char *> text + at, size)


cdef list _headers(const uint8_t *text, Py_ssize_t end, Py_ssize_t at, int64_t n):
    cdef int64_t name, n_name, value, n_value
    headers = []
    while n > 0:
        if not _header(text, end, &at, &name, &n_name, &value, &n_value):
            raise ValueError("no header there")
        headers.append((_bytes(text, name, n_name).decode(), _bytes(text, value, n_value)))
        n -= 1
    return headers


cdef int _check(const int64_t[:, :] fields, Py_ssize_t size) except -1:
    """Raise ``ValueError`` when a key or a value is not inside of the payload."""
    cdef Py_ssize_t i
    if fields.shape[0] != _FIELDS:
        raise ValueError(f"{fields.shape[0]} fields, not {_FIELDS}")
    for i in range(fields.shape[1]):
        if not (
            0 <= fields[_KEY, i] <= size and -1 <= fields[_KEY_SIZE, i] <= size - fields[_KEY, i]
            and 0 <= fields[_VALUE, i] <= size and -1 <= fields[_VALUE_SIZE, i] <= size - fields[_VALUE, i]
            and 0 <= fields[_HEADERS, i] <= size
        ):
            raise ValueError(f"record {i} is not in the payload")
    return 0


def make_records(const uint8_t[::1] payload not None, const int64_t[:, :] fields not None):
    cdef Py_ssize_t i, size = payload.shape[0]
    cdef Record record
    cdef list out = []
    _check(fields, size)
    if not fields.shape[1]:
        return out
    cdef const uint8_t *text = &payload[0]
    for i in range(fields.shape[1]):
        record = Record.__new__(Record)
        record.offset, record.timestamp = fields[_OFFSET, i], fields[_TIMESTAMP, i]
        record.timestamp_type = <int> fields[_KIND, i]
        record.key = _bytes(text, fields[_KEY, i], fields[_KEY_SIZE, i])
        record.value = _bytes(text, fields[_VALUE, i], fields[_VALUE_SIZE, i])
        if fields[_N_HEADERS, i]:
            record._headers = _headers(text, size, fields[_HEADERS, i], fields[_N_HEADERS, i])
        out.append(record)
    return out


def with_header(const uint8_t[::1] payload not None, const int64_t[:, :] fields not None, bytes name not None):
    cdef Py_ssize_t i, at, size = payload.shape[0], wanted = len(name)
    cdef int64_t n, start, n_name, value, n_value
    cdef const uint8_t *sought = name
    _check(fields, size)
    found = np.zeros(fields.shape[1], np.bool_)
    cdef uint8_t[::1] to = found.view(np.uint8)
    for i in range(fields.shape[1]):
        n, at = fields[_N_HEADERS, i], fields[_HEADERS, i]
        while n > 0:
            if not _header(&payload[0], size, &at, &start, &n_name, &value, &n_value):
                raise ValueError("no header there")
            if n_name == wanted and not memcmp(&payload[0] + start, sought, wanted):
                to[i] = True
            n -= 1
    return found
